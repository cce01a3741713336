"""Headers and cursors that break servers, for the tests and for `benchmarks.server.fuzz`."""

import base64


def _cursor(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


CURSORS = [
    *("x", "AAAA", "=", "%00", "\u0663", "/w", "a" * 5, "A" * 20_000),
    *map(_cursor, ("", "null", "3", '"abc"', "{}", "[]", "[1]", "[1,2]", "[[],{},[]]")),
    *map(_cursor, ('["a","b",1.5]', '["a","b",-1]', '["a","b",1e999]', '["a","b",NaN]')),
    *map(_cursor, ('["a","b",true]', '["\\ud800","b",1]', f'["a","b",{"9" * 5000}]')),
    *map(_cursor, ("[" * 1500, "[" * 15_000, '{"a":' * 1500, f"{'[' * 1500}{']' * 1500}")),
]

HOSTS = [
    *("[::1", "[bad]", "[]", "[::1]x", "[::1]:x", "::1]", "localhost:99999999", "localhost:-1"),
    *("localhost/a", "localhost?a", "localhost#a", "a@localhost", "local host", "%", "\u00e9"),
    *(":", "localhost:80:80", "\\", "[v1.x]"),
]

HEADERS = {
    "Accept": [
        *(
            ";",
            ",",
            ",,;q=",
            "*/*;q=",
            "*/*;q=x",
            "text/csv;q=nan",
            "text/csv;q=inf",
            "a/b;q=1;q=2",
        ),
        *("text/csv;q=-1", "text/csv;q=1e999", "\u00e9", "text/csv," * 5000, ";q=1" * 5000),
    ],
    "If-None-Match": ['"', '""', "W/", 'W/"', "*", ", ,", "\u00e9", '"a",' * 10_000],
    "Range": [
        *(
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=a-b",
            "bytes=5-1",
            "bytes=-0",
            "bytes=0-0,",
            "x=0-1",
        ),
        *(f"bytes=0-{'9' * 5000}", "bytes=0-0," * 5000, "bytes=\u0663-", "bytes=--1"),
    ],
    "If-Range": ['"', "W/", "Thu, 99 Foo 2026", "\u00e9"],
    "Accept-Encoding": [
        ";",
        "gzip;q=",
        "gzip;q=x",
        "gzip;q=nan",
        "*;q=0",
        "\u00e9",
        "gzip," * 5000,
    ],
    "Authorization": ["", "Bearer", "Bearer \u00e9", "Basic x", "x" * 20_000],
    "Origin": ["null", "", "x", "http://[bad", "\u00e9", "http://a" * 1000],
    "Content-Type": ["", ";", "application/json; charset=x", "\u00e9", "a" * 20_000],
    "X-Forwarded-Host": ["[bad", "\u00e9"],
}
"""Values of each header, as text whose bytes are its Latin-1 encoding, or UTF-8 beyond it."""


def header_bytes(value: str) -> bytes:
    """A value as it goes over the wire."""
    try:
        return value.encode("latin-1")
    except UnicodeEncodeError:
        return value.encode()
