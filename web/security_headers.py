"""Headers that every answer carries: no inline scripts, no framing, no sniffing."""

from flask import Flask, Response

# Bokeh draws inside shadow roots with style elements of its own: styles may be inline,
# scripts never. Bootstrap's icons inside its stylesheet are data addresses.
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)

HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
YEAR_SECONDS = 365 * 24 * 3600


def register(app: Flask) -> None:
    """Adds the headers to every answer of `app`."""
    secure = app.config["SESSION_COOKIE_SECURE"]

    @app.after_request
    def add_headers(response: Response) -> Response:
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        if secure:
            response.headers.setdefault(
                "Strict-Transport-Security", f"max-age={YEAR_SECONDS}"
            )
        if "Cache-Control" not in response.headers:
            # Pages show what only signed-in people may see.
            response.headers["Cache-Control"] = "private, no-cache"
        return response
