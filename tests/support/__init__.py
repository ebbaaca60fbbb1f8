"""What the tests share: waiting, builders of claims, fixtures' parts, and how tests are chosen and spread."""
