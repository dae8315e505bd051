"""The registry: an adapter's name in settings.toml, and its module.

Each module has `Settings`, the model of its own section, and `build`.
"""

from importlib import import_module
from types import ModuleType

from pydantic import BaseModel

from gateway.contract import Adapter, ChannelContext

ADAPTERS = {
    "sandbox": "adapters.sandbox",
    "email": "adapters.mail",
    "onebot": "adapters.onebot",
    "aliyun": "adapters.aliyun",
    "tencent": "adapters.tencent",
    "smpp": "adapters.smpp",
    "cmpp": "adapters.cmpp",
}


def _module(adapter: str) -> ModuleType:
    return import_module(ADAPTERS[adapter])


def settings_models() -> dict[str, type[BaseModel]]:
    """Adapter name → the model of its settings section."""
    return {name: _module(name).Settings for name in ADAPTERS}


def build(adapter: str, own: BaseModel, context: ChannelContext) -> Adapter:
    """One account, ready to send; it connects when it is first used."""
    built: Adapter = _module(adapter).build(own, context)
    return built
