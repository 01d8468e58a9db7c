"""What the tests of check, fmt and plan share."""
