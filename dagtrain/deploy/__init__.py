"""What a cluster needs besides Dask: certificates, and an examination of its machines."""

from dagtrain.deploy.certificates import make_certificates, security
from dagtrain.deploy.doctor import examine, exit_code, report

__all__ = ["examine", "exit_code", "make_certificates", "report", "security"]
