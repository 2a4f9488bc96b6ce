"""Peer: Plivo's agent-transport (WebSocket, pacing and codec in Rust) under Pipecat.

The same pipeline and mocks as ``pipecat_server.py``, on the event loop it comes with.
"""

import sys

from agent_transport.audio_stream.pipecat import PlivoFrameSerializer, WebsocketServerTransport
from loguru import logger
from mocks import RATE_HZ, pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.workers.runner import WorkerRunner

logger.remove()
logger.add(sys.stderr, level="WARNING")
server = WebsocketServerTransport(
    serializer=PlivoFrameSerializer(
        auth_id="",
        auth_token="",
        listen_addr=f"127.0.0.1:{sys.argv[1]}",
        sample_rate=RATE_HZ,
    )
)


@server.handler()
async def run_bot(transport, userdata):
    worker = PipelineWorker(
        pipeline(transport),
        idle_timeout_secs=None,
        params=PipelineParams(audio_in_sample_rate=RATE_HZ, audio_out_sample_rate=RATE_HZ),
    )
    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)

    @transport.event_handler("on_client_disconnected")
    async def gone(transport):
        await runner.cancel()

    await runner.run()


server.run()
