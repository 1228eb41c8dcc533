"""FastAPI: `uvicorn fastapi_app:app --workers 2`."""

from fastapi import FastAPI
from graph import Forecast, Graph, Vehicle

app = FastAPI()
graph = Graph()


@app.post("/predict")
async def predict(vehicle: Vehicle) -> Forecast:
    """Forecast on the event loop: a thread takes longer to hand over to than the graph to run."""
    return graph.predict(vehicle)
