"""What a cluster needs besides Dask: certificates, and an examination of its machines."""

from dagtrain.deploy.certificates import make_certificates, security

__all__ = ["make_certificates", "security"]
