"""Outside services, one module each, and the lists that join several of one kind."""

from rtcore.providers._registry import (
    build_responder,
    build_speech_model,
    build_synthesizer,
    build_transcriber,
    provider_names,
    serve_providers,
    turns_of,
    warm_providers,
)

__all__ = [
    "build_responder",
    "build_speech_model",
    "build_synthesizer",
    "build_transcriber",
    "provider_names",
    "serve_providers",
    "turns_of",
    "warm_providers",
]
