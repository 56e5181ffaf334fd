from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from txamqpx.errors import AMQPError, InvalidParameter, URLError
from txamqpx.params import ConnectionParameters, Secret, TLSOptions, parse_url

CANARY = "tweety5canary"


def refusal(url: str, **options: Any) -> URLError:
    with pytest.raises(URLError) as caught:
        parse_url(url, **options)
    return caught.value


def refused(url: str) -> URLError | None:
    try:
        parse_url(url)
    except URLError as error:
        return error
    return None


# The examples of RabbitMQ's URI specification, appendix A: URI, username, password, host, port, virtual
# host.  A component that is absent there has our default here.
APPENDIX_A = [
    ("amqp://user:pass@host:10000/vhost", "user", "pass", "host", 10000, "vhost"),
    ("amqp://user%61:%61pass@ho%61st:10000/v%2fhost", "usera", "apass", "hoast", 10000, "v/host"),
    ("amqp://", "guest", "guest", "localhost", 5672, "/"),
    ("amqp://:@/", "", "", "localhost", 5672, ""),
    ("amqp://user@", "user", "guest", "localhost", 5672, "/"),
    ("amqp://user:pass@", "user", "pass", "localhost", 5672, "/"),
    ("amqp://host", "guest", "guest", "host", 5672, "/"),
    ("amqp://:10000", "guest", "guest", "localhost", 10000, "/"),
    ("amqp:///vhost", "guest", "guest", "localhost", 5672, "vhost"),
    ("amqp://host/", "guest", "guest", "host", 5672, ""),
    ("amqp://host/%2f", "guest", "guest", "host", 5672, "/"),
    ("amqp://[::1]", "guest", "guest", "::1", 5672, "/"),
]

# What the predecessors got wrong, and what their users write.
MATRIX = [
    ("amqp://me:pw@h:1234/foo?heartbeat=10", "me", "pw", "h", 1234, "foo"),
    ("amqp://h/%2F%2F", "guest", "guest", "h", 5672, "//"),
    ("amqp://me%40home:p%3Aw%2F%3F%23@h", "me@home", "p:w/?#", "h", 5672, "/"),
    ("amqp://me:p:w@h", "me", "p:w", "h", 5672, "/"),
    ("amqp://user:@h", "user", "", "h", 5672, "/"),
    ("amqp://@h", "", "guest", "h", 5672, "/"),
    ("amqp://[::1]:5673/v", "guest", "guest", "::1", 5673, "v"),
    ("amqp://[fe80::1%25eth0]", "guest", "guest", "fe80::1%eth0", 5672, "/"),
    ("amqp://127.0.0.1:", "guest", "guest", "127.0.0.1", 5672, "/"),
    ("amqp://rabbit_mq.example.", "guest", "guest", "rabbit_mq.example.", 5672, "/"),
    ("amqp://h%C3%A9:%F0%9F%90%87@b%C3%BCcher.example/gr%C3%BCn", "hé", "🐇", "bücher.example", 5672, "grün"),
    ("amqp://hé:🐇@bücher.example/grün", "hé", "🐇", "bücher.example", 5672, "grün"),
    ("amqp://h?vhost=other", "guest", "guest", "h", 5672, "other"),
    ("amqp://h/?vhost=%2fother", "guest", "guest", "h", 5672, "/other"),
    ("AMQP://h?", "guest", "guest", "h", 5672, "/"),
    ("amqps://h", "guest", "guest", "h", 5671, "/"),
    ("amqps://h:5672/", "guest", "guest", "h", 5672, ""),
]


@pytest.mark.covers("T-HS-06", "S61")
@pytest.mark.parametrize(("url", "username", "password", "host", "port", "virtual_host"), APPENDIX_A + MATRIX)
def test_a_url_means(url: str, username: str, password: str, host: str, port: int, virtual_host: str) -> None:
    parameters = parse_url(url)
    assert parameters.username == username
    assert parameters.password == password
    assert parameters.address == (host, port)
    assert parameters.virtual_host == virtual_host
    assert (parameters.tls is not None) is url.startswith("amqps")


@pytest.mark.covers("S61")
@pytest.mark.parametrize(
    ("query", "field", "value"),
    [
        ("heartbeat=10", "heartbeat", 10),
        ("heartbeat=0", "heartbeat", 0),
        ("channel_max=7", "channel_max", 7),
        ("frame_max=8192", "frame_max", 8192),
        ("frame_max=0", "frame_max", 0),
        ("connection_timeout=2500", "connection_timeout", 2.5),
        ("auth_mechanism=plain", "mechanism", "PLAIN"),
        ("auth_mechanism=AMQPLAIN", "mechanism", "AMQPLAIN"),
        ("auth_mechanism=external", "mechanism", "EXTERNAL"),
        ("auth_mechanism=plain&auth_mechanism=amqplain", "mechanism", None),
        ("auth_mechanism=plain&auth_mechanism=plain", "mechanism", "PLAIN"),
        ("connection_name=billing+%26%20co", "connection_name", "billing+& co"),
        ("locale=de_DE", "locale", "de_DE"),
        ("&&heartbeat=3&", "heartbeat", 3),
        ("hea%72tbeat=3", "heartbeat", 3),
    ],
)
def test_a_query_parameter_sets_a_field(query: str, field: str, value: object) -> None:
    changed = parse_url(f"amqp://h?{query}")
    assert getattr(changed, field) == value
    assert attrs.evolve(changed, **{field: getattr(ConnectionParameters(), field)}) == parse_url("amqp://h")


@pytest.mark.covers("T-HS-07")
def test_an_amqps_url_is_verified_unless_it_says_otherwise() -> None:
    assert parse_url("amqps://h").tls == TLSOptions(verify=True)
    assert parse_url("amqps://h?verify=verify_peer").tls == TLSOptions(verify=True)
    assert parse_url("amqps://h?verify=verify_none").tls == TLSOptions(verify=False)


@pytest.mark.covers("T-HS-07")
def test_the_tls_parameters_of_a_url() -> None:
    url = (
        "amqps://h?cacertfile=/etc/ca%20one.pem&certfile=/etc/me.pem&keyfile=/etc/me.key&password=s%26cret"
        "&server_name_indication=rabbit.example&depth=2&fail_if_no_peer_cert=true"
    )
    assert parse_url(url).tls == TLSOptions(
        cacertfile="/etc/ca one.pem",
        certfile="/etc/me.pem",
        keyfile="/etc/me.key",
        password="s&cret",
        server_name_indication="rabbit.example",
        depth=2,
    )


@pytest.mark.covers("S61", "T-HS-06")
@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("", "scheme"),
        ("localhost", "scheme"),
        ("amqp:localhost", "scheme"),
        ("http://h", "scheme"),
        (" amqp://h", "scheme"),
        ("amqp://h/a/b", "virtual host"),
        ("amqp://h//", "virtual host"),
        ("amqp://h/%", "virtual host"),
        ("amqp://h/%zz", "virtual host"),
        ("amqp://h/%ff", "virtual host"),
        ("amqp://h/a b", "virtual host"),
        (f"amqp://h/{256 * 'a'}", "virtual_host"),
        ("amqp://h/v#x", "fragment"),
        ("amqp://u:p@ss@h", "credentials"),
        ("amqp://u%4:p@h", "username"),
        ("amqp://u%00:p@h", "username"),
        ("amqp://u:p%@h", "password"),
        ("amqp://u:p%00@h", "password"),
        ("amqp://u:p\x00@h", "password"),
        ("amqp://h\n", "host"),
        ("amqp://h%20", "host"),
        ("amqp://a..b", "host"),
        (f"amqp://{64 * 'a'}", "host"),
        ("amqp://::1", "host"),
        ("amqp://[::1", "host"),
        ("amqp://[::1]5672", "host"),
        ("amqp://[127.0.0.1]", "host"),
        ("amqp://[v1.x]", "host"),
        ("amqp://[nonsense]", "host"),
        ("amqp://h:port", "port"),
        ("amqp://h:0", "port"),
        ("amqp://h:65536", "port"),
        ("amqp://h:-1", "port"),
        ("amqp://h:+1", "port"),
        ("amqp://h:\u0661", "port"),
        ("amqp://h:5672abc", "port"),
        (f"amqp://h:{5000 * '1'}", "port"),
        ("amqp://h?heartbeat=soon", "heartbeat"),
        ("amqp://h?heartbeat=", "heartbeat"),
        ("amqp://h?heartbeat", "heartbeat"),
        ("amqp://h?heartbeat=-1", "heartbeat"),
        ("amqp://h?heartbeat=65536", "heartbeat"),
        ("amqp://h?heartbeat=1&heartbeat=2", "heartbeat"),
        ("amqp://h?heartbeat=%", "heartbeat"),
        ("amqp://h?frame_max=4096", "frame_max"),
        ("amqp://h?connection_timeout=0", "connection_timeout"),
        ("amqp://h?connection_timeout=1.5", "connection_timeout"),
        ("amqp://h?auth_mechanism=crdemo", "auth_mechanism"),
        ("amqp://h?auth_mechanism=external&auth_mechanism=plain", "auth_mechanism"),
        ("amqp://h/one?vhost=two", "vhost"),
        ("amqp://h?%", "query"),
        ("amqp://h?=", "query"),
        ("amqp://h?cacertfile=/ca.pem", "cacertfile"),
        ("amqp://h?verify=verify_peer", "verify"),
        ("amqps://h?verify=none", "verify"),
        ("amqps://h?fail_if_no_peer_cert=1", "fail_if_no_peer_cert"),
        ("amqps://h?server_name_indication=disable", "server_name_indication"),
        ("amqps://h?server_name_indication=", "server_name_indication"),
        ("amqps://h?keyfile=/me.key", "keyfile"),
        ("amqps://h?password=x", "password"),
        ("amqps://h?cacertfile=", "cacertfile"),
        ("amqps://h?depth=101", "depth"),
    ],
)
def test_a_wrong_url_is_one_error_that_names_the_part(url: str, part: str) -> None:
    error = refusal(url)
    assert error.parameter == part
    assert str(error) == f"the URL's {part}: {error.reason}"
    assert isinstance(error, AMQPError)
    assert isinstance(error, ValueError)
    assert not error.retryable


@pytest.mark.covers("S61")
def test_an_unknown_query_parameter_is_told_what_it_may_have_meant() -> None:
    assert str(refusal("amqp://h?locale=x&hartbeat=5")) == (
        "the URL's query: its parameter number 2 is unknown; did you mean 'heartbeat'?"
    )
    assert "known are auth_mechanism, cacertfile" in str(refusal("amqp://h?zzz=5"))


def test_only_text_is_a_url() -> None:
    with pytest.raises(TypeError, match="not bytes"):
        parse_url(b"amqp://h")  # type: ignore[arg-type]


def test_other_schemes_can_speak_the_same_grammar() -> None:
    assert parse_url("memory://x/v", schemes={"memory": False}).host == "x"
    assert refusal("amqp://x", schemes={"memory": False}).reason == "must be memory://"


# --------------------------------------------------------------------------- secrets


def shown_by(error: BaseException) -> str:
    """Everything that a log with the most verbose of tracebacks would show of our frames."""
    shown = [str(error), repr(error), repr(error.args), *map(repr, vars(error).values())]
    reason: BaseException | None = error
    while reason is not None:
        shown += traceback.format_exception_only(reason)
        shown += [repr(vars(reason)), *map(repr, reason.args)]
        frames = [frame for frame, _ in traceback.walk_tb(reason.__traceback__)]
        shown += [repr(frame.f_locals) for frame in frames if frame.f_globals["__name__"] != __name__]
        reason = reason.__context__
    return "\n".join(shown)


@pytest.mark.covers("T-HS-06")
@given(st.text(alphabet="amqps:/@%?#&=[]12fzü \x00\udc80" + CANARY[:3], max_size=30), st.data())
@example("amqp://u:", None)
def test_garbage_is_a_url_error_that_keeps_the_password(garbage: str, data: st.DataObject | None) -> None:
    urls = [f"amqp://u:{garbage}{CANARY}@h/v", f"amqps://u:{CANARY}{garbage}", f"amqp://{garbage}{CANARY}"]
    if data is not None:
        cut = data.draw(st.integers(0, len(urls[0])))
        urls.append(urls[0][:cut] + garbage + urls[0][cut:])
    for url in urls:
        error = refused(url)
        assert error is None or CANARY not in shown_by(error)


@pytest.mark.covers("T-HS-06")
@pytest.mark.parametrize(
    "url",
    [
        f"amqp://u:{CANARY}/x@h",
        f"amqp://u:{CANARY}?x@h",
        f"amqp://u:?{CANARY}=x@h",
        f"amqp://u:?heartbeat={CANARY}@h",
        f"amqp://u:#{CANARY}@h",
        f"amqp://u:{CANARY}%@h",
        f"amqp://u:{CANARY}%ff@h",
        f"amqp://u:{CANARY}@x@h",
        f"amqp://u:pass@{CANARY}@h",
        f"{CANARY}://u:p@h",
        f"amqp://u:p@[{CANARY}]",
        f"amqp://u:p@h:{CANARY}",
        f"amqps://h?password={CANARY}",
        f"amqps://h?password={CANARY}%ff",
        f"amqps://h?verify={CANARY}",
        f"amqps://h?pasword={CANARY}",
    ],
)
def test_a_refused_url_is_not_quoted(url: str) -> None:
    assert CANARY not in shown_by(refusal(url))


@pytest.mark.covers("T-HS-06", "T-HS-07")
def test_no_repr_shows_a_secret() -> None:
    parameters = parse_url(f"amqps://u:{CANARY}@h?certfile=/me.pem&password={CANARY}")
    assert parameters.password == CANARY
    assert parameters.tls is not None
    assert parameters.tls.password == CANARY
    for shown in (repr(parameters), str(parameters), f"{parameters}", repr(attrs.astuple(parameters))):
        assert CANARY not in shown
    assert CANARY not in repr(attrs.evolve(parameters, password=f"{CANARY}2"))


def test_a_secret_is_still_the_text() -> None:
    secret = Secret(CANARY)
    assert repr([secret]) == "['********']"
    assert secret == CANARY
    assert secret.encode() == CANARY.encode()
    assert secret + "!" == f"{CANARY}!"


def test_the_url_of_parameters_has_no_password() -> None:
    assert str(parse_url("amqp://a%40b:c@h/%2fv?heartbeat=1")) == "amqp://a%40b@h:5672/%2Fv"
    assert str(parse_url("amqps://[::1]")) == "amqps://guest@[::1]:5671/%2F"


# --------------------------------------------------------------------------- parameters


@pytest.mark.covers("T-HS-01", "T-HS-09")
def test_the_defaults() -> None:
    parameters = ConnectionParameters()
    assert parameters.address == ("localhost", 5672)
    assert (parameters.username, parameters.password, parameters.virtual_host) == ("guest", "guest", "/")
    assert (parameters.channel_max, parameters.frame_max, parameters.heartbeat) == (2047, 131072, 60)
    assert (parameters.connection_timeout, parameters.rpc_timeout, parameters.close_timeout) == (30, 600, 10)
    assert parameters.tls is None
    assert parameters.mechanism is None
    assert parse_url("amqp://") == parameters


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("host", ""),
        ("host", "a b"),
        ("host", "user@host"),
        ("host", "host:5672"),
        ("host", "\udcff"),
        ("host", None),
        ("port", 0),
        ("port", 65536),
        ("port", "5672"),
        ("port", True),
        ("virtual_host", 128 * "é"),
        ("virtual_host", b"/"),
        ("username", "a\0b"),
        ("password", "a\0b"),
        ("password", None),
        ("password", b"guest"),
        ("mechanism", "plain"),
        ("mechanism", "CRDEMO"),
        ("heartbeat", -1),
        ("heartbeat", 0.5),
        ("channel_max", 65536),
        ("frame_max", 1),
        ("frame_max", 4096),
        ("frame_max", 8191),
        ("frame_max", 2**32),
        ("frame_max", -1),
        ("connection_timeout", 0),
        ("connection_timeout", float("inf")),
        ("connection_timeout", float("nan")),
        ("rpc_timeout", -1),
        ("rpc_timeout", None),
        ("close_timeout", True),
        ("close_timeout", "1"),
        ("tls", "yes"),
        ("locale", ""),
        ("client_properties", None),
        ("client_properties", {1: "one"}),
        ("connection_name", ""),
        ("max_message_size", 0),
        ("max_outbox", 0),
    ],
)
def test_a_wrong_parameter_is_one_error_that_names_it(field: str, value: object) -> None:
    with pytest.raises(InvalidParameter) as caught:
        ConnectionParameters(**{field: value})  # type: ignore[arg-type]
    assert caught.value.parameter == field
    assert str(caught.value).startswith(f"{field}: ")


@pytest.mark.covers("T-HS-01")
@pytest.mark.parametrize("size", [0, 8192, 131072, 2**32 - 1])
def test_frames_from_8192_bytes_on_are_accepted(size: int) -> None:
    assert ConnectionParameters(frame_max=size).frame_max == size


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("verify", None),
        ("verify", 0),
        ("certfile", ""),
        ("cacertfile", 5),
        ("keyfile", "k"),
        ("password", "p"),
    ],
)
def test_a_wrong_tls_option_is_one_error_that_names_it(field: str, value: object) -> None:
    with pytest.raises(InvalidParameter) as caught:
        TLSOptions(**{field: value})  # type: ignore[arg-type]
    assert caught.value.parameter == field


def test_tls_may_be_a_flag_or_options_with_paths() -> None:
    assert ConnectionParameters(tls=True).tls == TLSOptions()
    assert ConnectionParameters(tls=False).tls is None
    options = TLSOptions(cacertfile=Path("/ca.pem"))
    assert options.cacertfile == "/ca.pem"
    assert ConnectionParameters(tls=options).address == ("localhost", 5671)


@pytest.mark.covers("T-HS-02")
def test_parameters_cannot_change() -> None:
    given_properties = {"product": "mine", "list": [1]}
    parameters = ConnectionParameters(client_properties=given_properties)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        parameters.heartbeat = 5  # type: ignore[misc]
    with pytest.raises(TypeError):
        parameters.client_properties["product"] = "yours"  # type: ignore[index]
    given_properties["list"].append(2)  # type: ignore[attr-defined]
    assert parameters.client_properties == {"product": "mine", "list": [1]}


def test_evolve_makes_another() -> None:
    parameters = parse_url("amqp://u:p@h/v")
    encrypted = attrs.evolve(parameters, tls=True)
    assert encrypted.address == ("h", 5671)
    assert parameters.address == ("h", 5672)
    assert attrs.evolve(encrypted, tls=None) == parameters
    assert hash(attrs.evolve(encrypted, tls=None)) == hash(parameters)
