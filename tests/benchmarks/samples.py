"""Results as benchmarks return them, with numbers that were never measured."""

from benchmarks.report import Results, Row

_BODIES = (20, 150, 1500, 16_384, 65_535)
_SESSIONS = (100, 1_000, 5_000, 15_000)

FRAMES = Results(
    [
        Row(
            f"{operation}, {body:,} B",
            "ns",
            [100.0 + body / 3, 120.0 + body / 3, 130.0 + body / 3],
            {"libsodium": [900.0 + body], "OpenSSL": [1_500.0 + body / 4, 1_600.0 + body / 4]},
            more_is_better=False,
            params={"operation": operation, "body": body},
        )
        for operation in ("seal", "open")
        for body in _BODIES
    ],
    missing={"lnd": "there is no Go"},
    versions={"libsodium": "1.0.18", "OpenSSL": "3.0"},
)

DENSITY = Results(
    [
        *(
            Row(
                f"resident memory per idle session, {sessions:,} sessions",
                "B",
                [2_500.0 - 100_000 / (sessions + 100)],
                {"lnd": [6_600.0]},
                more_is_better=False,
                params={"sessions": sessions},
            )
            for sessions in _SESSIONS
        ),
        *(
            Row(
                f"processor time per ping, {sessions:,} sessions",
                "µs",
                [4.0 + sessions / 10_000, 4.2 + sessions / 10_000],
                {"lnd": [11.0 + sessions / 9_000]},
                more_is_better=False,
                params={"sessions": sessions},
            )
            for sessions in _SESSIONS
        ),
        # Nothing to draw.
        Row("longest wait for a pong", "s", [0.5], more_is_better=False),
    ]
)

RATES = Results([Row("pongs, 1,000 sessions", "/CPU-s", [300_000.0, 320_000.0], {"lnd": [90_000]})])
