"""The bundle as an MLflow model, from code: MLflow runs this file when it loads a registered version.

Nothing is unpickled. The bundle beside this file is a plain Hugging Face directory, loaded by the same `Model` that
examined it, so what MLflow serves is what was examined. Vernal must be installed where it is loaded.
"""

from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel


class BundleModel(PythonModel):
    """A column for each input of the problem in, such as `text`; `answer` and `score` out, one row for each."""

    def load_context(self, context: Any) -> None:
        from tasks.model.bundle import Model  # here, for MLflow runs this file to register a version, too

        self.model = Model.load(Path(context.artifacts["bundle"]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        rows = model_input[list(self.model.problem.inputs)].to_dict("records")
        answers = self.model.predict(rows)
        return pd.DataFrame({"answer": [one.answer for one in answers], "score": [one.score for one in answers]})


set_model(BundleModel())
