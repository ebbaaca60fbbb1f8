"""``python -m lab ec2``: the simulated EC2 alone, on a port of this machine."""

from __future__ import annotations

import argparse

from lab.webserver import open_socket, wait_for_the_end

EPILOG = """\
Credentials choose the account: AKIALAB0 followed by the account id is an access key of that account, and so
is what AssumeRole returns. Any other key speaks for --account.

Faults, journal and truth, for curl:
  POST /_lab/faults {"method": "lose_answer", "args": {"action": "CreateRoute", "times": 1}}
       methods: throttle stale_reads latency error lose_answer lose_request hang cut heal route_quota
       clock clear
  GET  /_lab/journal    GET /_lab/truth/<route table>    GET /_lab/instance/<instance>    POST /_lab/reset
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``ec2`` to the lab's command line."""
    parser = subparsers.add_parser(
        "ec2",
        help="serve the simulated EC2 and STS alone",
        description="Serve a simulated EC2 and STS until Ctrl-C. Its state is in memory, and is lost.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default %(default)s)")
    parser.add_argument(
        "--port", type=int, default=8000, help="port; 0 takes a free one (default %(default)s)"
    )
    parser.add_argument("--region", default="eu-central-1", help="the one Region (default %(default)s)")
    parser.add_argument("--account", default="111122223333", help="account id (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="ids and MAC addresses follow from it")
    parser.add_argument(
        "--sample",
        action="store_true",
        help="start with a VPC of two zones and two instances and print its ids",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until told to stop."""
    try:
        sock = open_socket(args.host, args.port)
    except OSError as e:
        print(f"cannot listen on {args.host} port {args.port}: {e.strerror}")
        return 1
    # Imported here, because moto takes more than a second and --help need not wait for it.
    from lab.ec2 import SimulatedEC2, sample
    from lab.ec2.cloud import access_key

    ec2 = SimulatedEC2(region=args.region, account=args.account, seed=args.seed)
    if args.sample:
        for line in str(sample.build(ec2)).splitlines():
            print(f"# {line}")
    host, port = ec2.listen(sock, "cli").address
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    print(f"# simulated EC2 and STS at {url}; Ctrl-C ends it")
    environment = {
        "AWS_ENDPOINT_URL_EC2": url,
        "AWS_ENDPOINT_URL_STS": url,
        "AWS_REGION": args.region,
        "AWS_DEFAULT_REGION": args.region,
        "AWS_ACCESS_KEY_ID": access_key(args.account),
        "AWS_SECRET_ACCESS_KEY": "lab",
    }
    for name, value in environment.items():
        print(f"export {name}={value}", flush=True)
    wait_for_the_end()
    ec2.close()
    return 0
