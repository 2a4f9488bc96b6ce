"""A certificate for a node that is measured with TLS: nobody's, and good for one run."""

from __future__ import annotations

from pathlib import Path

from bench.load.server import ServerError

__all__ = ["write_certificate"]


def write_certificate(folder: Path) -> tuple[Path, Path]:
    """A chain and its key (ECDSA, P-256: what authorities give by default) as PEM files.

    Raises:
        ServerError: the package that makes them is not installed.
    """
    try:
        import trustme
    except ImportError as exc:
        raise ServerError("--tls needs trustme: pip install trustme") from exc
    issued = trustme.CA().issue_cert("localhost", "127.0.0.1")
    chain, key = folder / "chain.pem", folder / "key.pem"
    issued.cert_chain_pems[0].write_to_path(chain)
    issued.private_key_pem.write_to_path(key)
    return chain, key
