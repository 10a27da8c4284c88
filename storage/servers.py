"""Where base and tuned are asked: at our engine, or at servers that others run. Pure: reads settings, asks nobody."""

from dataclasses import dataclass, field, replace

from storage.settings import ADAPTER, BASE_NAME, TUNED_NAME, Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One OpenAI-compatible server and the name that a model has there."""

    url: str  # ends in /v1
    key: str = field(repr=False)
    name: str
    hosted: bool = False

    @property
    def ours(self) -> bool:
        """Our engine, which proves in each reply who spoke. Its two names belong to it alone."""
        return self.name in (TUNED_NAME, BASE_NAME)

    @property
    def follows(self) -> bool:
        """Promotions are followed there by asking for another name: a hosted model's own, or that of an adapter."""
        return self.hosted or self.loads

    @property
    def loads(self) -> bool:
        """Adapters are loaded there as they are promoted, each under a name of its own."""
        return ADAPTER in self.name


def tuned_server(settings: Settings) -> Server:
    """Of a hosted base: the server that tuned it, unless TUNED_URL names another; before a promotion the base speaks."""
    if settings.is_hosted:
        there = base_server(settings)
        url, key = settings.tuned_url, settings.tuned_key.get_secret_value()
        return (
            Server(url=url.rstrip("/"), key=key, name=there.name, hosted=True) if url else replace(there, hosted=True)
        )
    return _server(settings, settings.tuned_url, settings.tuned_key.get_secret_value(), settings.tuned_name)


def base_server(settings: Settings) -> Server:
    return _server(settings, settings.base_url, settings.base_key.get_secret_value(), settings.base_name)


def needs_engine(settings: Settings) -> bool:
    """Whether anybody asks our engine at ENGINE_URL."""
    servers = (tuned_server(settings), base_server(settings))
    return any(server.ours and server.url == settings.engine_url.rstrip("/") for server in servers)


def _server(settings: Settings, url: str, key: str, name: str) -> Server:
    """A key goes to the address that it belongs to, and to no other."""
    if not url:
        url, key = settings.engine_url, settings.engine_key.get_secret_value()
    return Server(url=url.rstrip("/"), key=key, name=name)
