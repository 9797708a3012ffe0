"""The peers: ``floor`` (an empty raw ASGI handler) and ``fastapi`` (FastAPI + pandas + scikit-learn)."""

import os
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel


class Request(BaseModel):
    """Body of the plain handler."""

    records: list[dict[str, Any]]


async def floor(scope: Any, receive: Any, send: Any) -> None:
    """Reads the body, answers a constant."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    body = b'{"predictions":[{"probability":0.5,"label":true,"model_id":"x"}]}'
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def fastapi() -> FastAPI:
    """What one would write first."""
    import joblib
    import pandas as pd

    model = joblib.load(os.environ["PEER_MODEL"])

    app = FastAPI()

    @app.post("/v1/predict")
    def predict(request: Request) -> dict[str, Any]:
        probabilities = model.predict_proba(pd.DataFrame(request.records))[:, 1]
        return {"predictions": [{"probability": float(value)} for value in probabilities]}

    return app
