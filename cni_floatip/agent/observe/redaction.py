"""Redacts credentials in text that others wrote: exceptions, AWS's answers, configurations.

A secret key has no mark of its own, so every long mixed run of base64 is redacted. What an operator needs of
AWS's refusals (who was refused, and the encoded reason) stays.

An attacker may craft a text that is slow to match, and a pattern holds the interpreter until it is done. So
every repetition is bounded, or begins only where a run of its characters does (``(?<!...)``): no character is
read twice.
"""

from __future__ import annotations

import re

_KEEP = r"arn:aws[\w-]{0,32}:[^\s\"',]+|Encoded authorization failure message: \S+"
_SECRETS = re.compile(
    rf"(?P<keep>{_KEEP})"
    # name and value, in JSON, a header, a query, an INI file or a repr
    r"|(?P<name>(?i:\b(?:(?:aws[_-]?)?secret[_-]?(?:access[_-]?)?key|(?:x-amz-)?signature|"
    r"authorization|x-amz-credential|password)|(?<![\w-])[\w-]*token)"
    r"[\\\"']{0,16}\s{0,16}[:=]\s{0,16}(?:b?[\\\"']{1,16})?)"
    r"(?P<value>(?:(?i:bearer|basic|aws4-hmac-sha256) )?[^\s\"',&;)}\\]+)"
    r"|(?P<id>\bA[KS]IA[A-Z0-9]{12,})"
    r"|(?P<jwt>(?<![\w-])eyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?)"
    r"|(?P<long>(?<![\w/+=])[\w/+=]{40,}(?![\w/+=]))"
)
"""Credentials by name, and by form: access key ids, web identity tokens, and long mixed runs of base64."""


def redact(text: str) -> str:
    """Return ``text`` with every credential in it redacted."""
    return _SECRETS.sub(_blot, text)


def _blot(match: re.Match[str]) -> str:
    if match["keep"]:
        return match["keep"]
    if match["value"]:
        return f"{match['name']}[redacted]"
    if run := match["long"]:
        mixed = all(any(test(char) for char in run) for test in (str.isupper, str.islower, str.isdigit))
        return "[redacted]" if mixed else run  # hashes and container ids have one case
    return "[redacted]"
