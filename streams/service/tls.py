"""TLS contexts from certificate files, for Kafka as they are and for Redis as a check of what the files hold."""

import ssl
from pathlib import Path


def tls_context(ca: Path | None, cert: Path | None, key: Path | None) -> ssl.SSLContext:
    """A context that trusts the CA file, or the system's, and shows the certificate. Raises OSError on bad files."""
    context = ssl.create_default_context(cafile=ca)
    if cert is not None:
        context.load_cert_chain(cert, key, password=_no_password)
    return context


def wrong_files(side: str, ca: Path | None, cert: Path | None, key: Path | None) -> str:
    """A sentence that names the settings `KAIROS_<side>_CA`, `_CERT` and `_KEY` that cannot be used, else empty."""
    try:
        if ca is not None:
            tls_context(ca, None, None)
    except OSError as error:
        return f"KAIROS_{side}_CA={ca} is no file of certificates in PEM ({_reason(error)})."
    try:
        if cert is not None:
            tls_context(ca, cert, key)
    except OSError as error:
        return (
            f"KAIROS_{side}_CERT={cert} and KAIROS_{side}_KEY={key} are not a certificate in PEM and its key without a "
            f"password ({_reason(error)})."
        )
    return ""


def _no_password() -> str:
    """A service cannot be asked: an encrypted key is refused, not waited for at a terminal."""
    return ""


def _reason(error: OSError) -> str:
    return (error.strerror if not isinstance(error, ssl.SSLError) else error.reason or "") or str(error)
