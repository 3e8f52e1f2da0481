"""ASGI middleware: authentication, body limits, errors, metrics, security headers."""
