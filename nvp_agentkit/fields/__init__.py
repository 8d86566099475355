"""2-D energy fields: what a sequence is, where it is kept, how it is read, and the forecasts that cost nothing."""

from nvp_agentkit.fields.sequence import EnergySequence, FieldMeta, SequenceSet
from nvp_agentkit.fields.split import Split, split
from nvp_agentkit.fields.storage import open_sequences, save

__all__ = ["EnergySequence", "FieldMeta", "SequenceSet", "Split", "open_sequences", "save", "split"]
