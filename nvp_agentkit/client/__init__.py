"""The client: what an agent imports. Loads neither jax nor a graph driver."""

from nvp_agentkit.client.agent import AgentClient
from nvp_agentkit.client.forecast import Certificate, Forecast
from nvp_agentkit.client.job import Job
from nvp_agentkit.client.sync import SyncAgentClient, SyncJob

__all__ = ["AgentClient", "Certificate", "Forecast", "Job", "SyncAgentClient", "SyncJob"]
