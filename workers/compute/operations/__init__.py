"""What a compute child can do. Each operation is one function of a `Call`; none of them sees a network."""

from __future__ import annotations

from . import atlas, data, foreign, hindcast, serving, training, trivial

OPERATIONS = {
    "simulate": data.simulate,
    "import": data.import_file,
    "join": atlas.join_files,
    "evaluate": atlas.evaluate,
    "check": atlas.check,
    "train": training.train,
    "train_foreign": foreign.train,
    "survey": hindcast.survey,
    "hindcast": hindcast.part,
    "load": serving.load,
    "keep": serving.keep,
    "ready": serving.ready,
    "predict": serving.predict,
    "forecast_trivially": trivial.forecast,
    "simulated": trivial.simulated,
}
