"""Login to Amazon's registry."""

from __future__ import annotations

import base64
import re

from health_pipeline.errors import DeploymentError

_HOST = re.compile(r"\d{12}\.dkr\.ecr(-fips)?\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(\.cn)?")


def is_ecr(host: str) -> bool:
    """Whether a registry host is an ECR."""
    return _HOST.fullmatch(host) is not None


def ecr_login(host: str, endpoint: str | None = None) -> tuple[str, str]:
    """User and password of a registry, from the machine's AWS identity.

    Args:
        host: of the registry; its region is asked, elsewhere the machine's own.
        endpoint: of the ECR API, for tests and private clouds.

    Raises:
        DeploymentError: boto3 is missing, or AWS gives no token.
    """
    try:
        import boto3
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError:
        raise DeploymentError("login to ECR needs boto3", remedy="pip install 'health-pipeline[aws]'") from None
    try:
        found = _HOST.fullmatch(host)
        region = found["region"] if found is not None else None
        answer = boto3.client("ecr", region_name=region, endpoint_url=endpoint).get_authorization_token()
        token = answer["authorizationData"][0]["authorizationToken"]
        user, _, password = base64.b64decode(token).decode().partition(":")
    except (BotoCoreError, ClientError, KeyError, IndexError, ValueError) as error:
        raise DeploymentError(
            f"AWS gave no registry token: {type(error).__name__}",
            where=endpoint or "ECR",
            remedy="check AWS credentials, region, and the right ecr:GetAuthorizationToken",
        ) from error
    return user, password
