"""Security headers of every answer: browsers may not embed, sniff or cache it, nor load anything from elsewhere.

There are deliberately no CORS headers: no other site's pages may read an answer. Nothing here sets a cookie.
"""

import secrets

from flask import Response, g, request

_ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}
_NOT_A_PAGE = "default-src 'none'; frame-ancestors 'none'; sandbox"
_PAGE = (
    "default-src 'none'; script-src 'self' 'nonce-{nonce}'; style-src 'self' 'nonce-{nonce}'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HSTS = "max-age=63072000; includeSubDomains"


def csp_nonce() -> str:
    """Return this answer's nonce for inline scripts and styles; calling it gives the answer the policy of a page."""
    if "csp_nonce" not in g:
        g.csp_nonce = secrets.token_urlsafe(16)
    return g.csp_nonce


def harden(response: Response) -> Response:
    """Add the security headers (OWASP Secure Headers) that the view has not set itself."""
    policy = _PAGE.format(nonce=g.csp_nonce) if "csp_nonce" in g else _NOT_A_PAGE
    wanted = _ALWAYS | {"Content-Security-Policy": policy}
    if request.is_secure:
        wanted["Strict-Transport-Security"] = _HSTS
    # `setdefault` would scan all headers three times for each of these.
    there = {name.lower() for name, _ in response.headers}
    response.headers.extend([(name, value) for name, value in wanted.items() if name.lower() not in there])
    return response
