"""A bundle as an MLflow model: written without pickle, loaded through the bundle itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from health_pipeline import __version__
from health_pipeline.modeling.bundle import Bundle, load_bundle

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_DATA = "bundle"
_TYPES = {"numeric": "double", "boolean": "boolean", "categorical": "string"}


class BundleModel:
    """What ``mlflow.pyfunc.load_model`` returns inside: ``predict`` gives probabilities."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle

    def predict(self, data: Any, params: Any = None) -> NDArray[np.float64]:
        """Probabilities of the rows of a pandas data frame.

        Args:
            data: frame with (some of) the feature columns.
            params: part of MLflow's interface, not used.
        """
        import pyarrow as pa

        del params
        return self.bundle.probabilities(pa.Table.from_pandas(data, preserve_index=False))


def _load_pyfunc(path: str) -> BundleModel:
    """Entry point that MLflow calls with the bundle folder."""
    return BundleModel(load_bundle(path))


def write_model(bundle: Bundle, folder: Path, run_id: str) -> None:
    """Write a model folder with signature and requirements.

    Args:
        bundle: the model.
        folder: to be created.
        run_id: MLflow run it belongs to.
    """
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    inputs: list[Any] = [ColSpec(DataType[_TYPES[item.kind]], item.name, required=False) for item in bundle.features]
    signature = ModelSignature(inputs=Schema(inputs), outputs=Schema([ColSpec(DataType.double)]))
    model = Model(artifact_path=folder.name, run_id=run_id, signature=signature)
    model.add_flavor("python_function", loader_module=__name__, data=_DATA, env={"virtualenv": "python_env.yaml"})
    folder.mkdir(parents=True)
    bundle.save(folder / _DATA)
    model.save(str(folder / "MLmodel"))
    (folder / "requirements.txt").write_text(f"health-pipeline=={__version__}\n")
    (folder / "python_env.yaml").write_text("python: '3.11'\ndependencies:\n- -r requirements.txt\n")
