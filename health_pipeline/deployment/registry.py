"""The model registry: which version is champion, challenger, previous. Aliases follow traffic, never lead it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from health_pipeline.errors import DeploymentError
from health_pipeline.settings import Settings

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
MODEL_TAG = "model_id"
HASH_TAG = "artefact_hash"


class Registry(Protocol):
    """What the steps need of a model registry."""

    def register(self, model_id: str, bundle: Path, bundle_hash: str) -> str:
        """The version of a model; registered now when it is not yet."""
        ...

    def holder(self, alias: str) -> str | None:
        """Model id that holds an alias."""
        ...

    def point(self, alias: str, model_id: str | None) -> None:
        """Let an alias name a registered model; ``None`` takes the alias away."""
        ...

    def describe(self, model_id: str, facts: dict[str, str]) -> None:
        """Keep facts (deployment time, performance difference) with a version."""
        ...


class MLflowRegistry:
    """Aliases of one registered model in MLflow.

    Args:
        uri: tracking and registry store.
        name: registered model.
    """

    def __init__(self, uri: str, name: str) -> None:
        self._uri, self._name = uri, name
        self._made: Any = None

    @classmethod
    def of(cls, settings: Settings) -> MLflowRegistry:
        """The registry of the settings."""
        return cls(settings.mlflow_uri, settings.mlflow.experiment)

    @property
    def _client(self) -> Any:
        if self._made is None:
            import mlflow

            self._made = mlflow.MlflowClient(tracking_uri=self._uri, registry_uri=self._uri)
        return self._made

    def register(self, model_id: str, bundle: Path, bundle_hash: str) -> str:
        """The version whose tag names the model; a new one that points to the bundle when there is none.

        Raises:
            DeploymentError: the registered version holds another artefact, or the registry does not answer.
        """
        found = self._find(model_id)
        if found is None:
            found = self._create(model_id, bundle, bundle_hash)
        elif found.tags.get(HASH_TAG, bundle_hash) != bundle_hash:
            raise DeploymentError(
                f"version {found.version} of {self._name} holds another artefact than model {model_id}",
                where=self._name,
                remedy="train the month again: a model id must name one artefact",
            )
        return str(found.version)

    def holder(self, alias: str) -> str | None:
        """Model id that holds an alias."""
        version = self._call(lambda client: self._aliases(client).get(alias))
        if version is None:
            return None
        tags = self._call(lambda client: client.get_model_version(self._name, version).tags)
        model_id: str | None = tags.get(MODEL_TAG)
        return model_id

    def point(self, alias: str, model_id: str | None) -> None:
        """Move an alias.

        Raises:
            DeploymentError: the model is not registered, or the registry does not answer.
        """
        if model_id is None:
            if self._call(lambda client: alias in self._aliases(client)):
                self._call(lambda client: client.delete_registered_model_alias(self._name, alias))
            return
        found = self._find(model_id)
        if found is None:
            raise DeploymentError(
                f"model {model_id} is not registered",
                where=self._name,
                remedy="materialise deployment/registered_model",
            )
        self._call(lambda client: client.set_registered_model_alias(self._name, alias, found.version))

    def describe(self, model_id: str, facts: dict[str, str]) -> None:
        """Keep facts as tags of the version."""
        found = self._find(model_id)
        if found is not None:
            for key, value in facts.items():
                self._call(
                    lambda client, key=key, value=value: client.set_model_version_tag(
                        self._name, found.version, key, value
                    )
                )

    def _aliases(self, client: Any) -> dict[str, str]:
        from mlflow.exceptions import MlflowException

        try:
            return dict(client.get_registered_model(self._name).aliases)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return {}
            raise

    def _find(self, model_id: str) -> Any:
        quoted = model_id.replace("'", "")
        query = f"name = '{self._name}' AND tags.`{MODEL_TAG}` = '{quoted}'"
        versions = self._call(lambda client: list(client.search_model_versions(query)))
        return max(versions, key=lambda version: int(version.version), default=None)

    def _create(self, model_id: str, bundle: Path, bundle_hash: str) -> Any:
        from mlflow.exceptions import MlflowException

        def create(client: Any) -> Any:
            try:
                client.create_registered_model(self._name)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            tags = {MODEL_TAG: model_id, HASH_TAG: bundle_hash}
            return client.create_model_version(self._name, source=bundle.resolve().as_uri(), tags=tags)

        return self._call(create)

    def _call(self, action: Any) -> Any:
        client = self._client
        from mlflow.exceptions import MlflowException

        try:
            return action(client)
        except MlflowException as error:
            raise DeploymentError(
                f"the model registry refused: {error.error_code}", where=self._name, remedy="see the registry's log"
            ) from error
        except OSError as error:
            raise DeploymentError(
                f"the model registry does not answer: {type(error).__name__}",
                where=self._name,
                remedy="start it, retry",
            ) from error
