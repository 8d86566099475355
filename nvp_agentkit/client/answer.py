"""From what came back to what an agent gets: a forecast, or the exception that the refusal was."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nvp_agentkit.client.forecast import NORMAL_WIDTHS, Axes, Certificate, Exchange, Forecast
from nvp_agentkit.errors import NvpError, QuorumAbstained, from_wire
from nvp_agentkit.messages import (
    STARTER,
    TRIVIAL,
    ArrayRef,
    Payload,
    PredictionAbstained,
    PredictionCertified,
    PredictionCompleted,
    PredictionRefused,
    PredictionRequested,
)
from nvp_agentkit.settings import VOTERS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nvp_agentkit.artifacts import Artifacts


@dataclass(frozen=True)
class Reader:
    """Where the arrays and certificates lie that a reply names, whose keys are trusted, how large an array may be."""

    artifacts: Artifacts
    root_key: Path
    max_cells: int

    async def read(self, reply: Payload, request: PredictionRequested, axes: Axes) -> Forecast:
        """The forecast that ``reply`` to ``request`` speaks of.

        Raises:
            QuorumAbstained: it says that there is none.
            NvpError: it is a refusal, as the class of its code.
        """
        match reply:
            case PredictionCompleted():
                trivial = reply.model_id.startswith(f"{TRIVIAL}:")
                who = TRIVIAL if trivial else STARTER if request.model == STARTER else VOTERS[0]
                models = {who: reply.model_id}
                return await self._forecast(reply, models, request, axes)
            case PredictionCertified():
                raw = await self.artifacts.get(reply.certificate)
                exchange = Exchange(reply.request_id, request.field.digest, reply.mean.digest, reply.log_var.digest)
                certificate = Certificate(raw, self.root_key, self.artifacts, exchange)
                return await self._forecast(reply, reply.models, request, axes, certificate)
            case PredictionAbstained():
                raise QuorumAbstained(f"request {reply.request_id}: {reply.reason}")
            case PredictionRefused():
                raise from_wire(reply.code, reply.detail, reply.retry_after_s)
        raise NvpError(f"a {type(reply).__name__} is no answer to a prediction request")

    async def _forecast(
        self,
        reply: PredictionCompleted | PredictionCertified,
        models: dict[str, str],
        request: PredictionRequested,
        axes: Axes,
        certificate: Certificate | None = None,
    ) -> Forecast:
        told = reply.widths if isinstance(reply, PredictionCompleted) else None
        return Forecast(
            request_id=reply.request_id,
            domain=request.domain,
            field_digest=request.field.digest,
            mean=await self._map(reply.mean),
            log_var=await self._map(reply.log_var),
            units=reply.mean.units,
            axes=axes,
            energy=reply.energy,
            models=models,
            agreed=reply.agreed if isinstance(reply, PredictionCertified) else (),
            dissent=reply.dissent if isinstance(reply, PredictionCertified) else (),
            certificate=certificate,
            ood=reply.ood if isinstance(reply, PredictionCompleted) else None,
            cached=reply.cached if isinstance(reply, PredictionCompleted) else None,
            widths=NORMAL_WIDTHS if told is None else {int(level) / 100: width for level, width in told.items()},
        )

    async def _map(self, ref: ArrayRef) -> NDArray[np.float32]:
        return (await self.artifacts.get_array(ref, self.max_cells)).astype("float32", copy=False)
