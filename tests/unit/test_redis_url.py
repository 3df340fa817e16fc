"""One URL of Redis: what is read from it, and what is refused before anything is connected to."""

import pytest

from pipeline.base.redis_url import parse_redis_url, with_ca

SECRET = "drawn-at-random"


def test_a_host_has_a_port_a_database_and_a_login() -> None:
    found = parse_redis_url("redis://user:p%40ss@redis:6380/3")

    assert found.hosts == (("redis", 6380),)
    assert (found.username, found.password, found.database) == ("user", "p@ss", 3)
    assert (found.tls, found.socket, found.service) == (None, "", "")


def test_what_is_left_out_has_a_default() -> None:
    found = parse_redis_url("redis://")

    assert (found.hosts, found.database, found.password) == ((("localhost", 6379),), 0, None)


def test_a_socket_has_a_path() -> None:
    found = parse_redis_url("unix://:p@/run/a%20b/redis.sock?db=1")

    assert (found.socket, found.hosts, found.database) == ("/run/a b/redis.sock", (), 1)
    assert found.password == "p"


def test_sentinels_are_several_with_a_service_and_a_login_of_their_own() -> None:
    found = parse_redis_url(
        "sentinel://:for-redis@one:26380,two,[fd00::1]:26379/1?service=m"
        "&sentinel_username=u&sentinel_password=for%20them"
    )

    assert found.hosts == (("one", 26380), ("two", 26379), ("fd00::1", 26379))
    assert (found.service, found.database, found.password) == ("m", 1, "for-redis")
    assert (found.sentinel_username, found.sentinel_password) == ("u", "for them")
    assert found.tls is None


@pytest.mark.parametrize("url", ["rediss://h", "sentinels://h?service=m"])
def test_tls_verifies(url: str) -> None:
    assert parse_redis_url(url).tls == {"ssl_cert_reqs": "required"}


def test_the_ca_becomes_part_of_the_url_and_takes_the_place_of_another() -> None:
    url = with_ca("rediss://:p@h/0?ssl_ca_certs=/old.pem&ssl_certfile=/c.pem", "/a b/ca.pem")

    assert url.startswith("rediss://:p@h/0?")
    assert parse_redis_url(url).tls == {
        "ssl_certfile": "/c.pem",
        "ssl_ca_certs": "/a b/ca.pem",
        "ssl_cert_reqs": "required",
    }


@pytest.mark.parametrize(
    ("url", "says"),
    [
        (f"http://:{SECRET}@h", "begins with redis://"),
        (f"{SECRET}", "begins with redis://"),
        (f"redis://:{SECRET}@one,two", "sentinel://…\\?service=NAME"),
        (f"redis://:{SECRET}@h:port", "host:port"),
        (f"redis://:{SECRET}@h/{SECRET}", "a number"),
        (f"sentinel://:{SECRET}@one,two/0", "service=NAME"),
        (f"sentinel://:{SECRET}@one/0?service=m&servic=n", "no such option: servic"),
        (f"redis://:{SECRET}@h?ssl_ca_certs=/ca.pem", "rediss://"),
        (f"rediss://:{SECRET}@h?ssl_cert_reqs=none", "KINDRED_REDIS_CA"),
        (f"rediss://:{SECRET}@h?ssl_check_hostname=false", "KINDRED_REDIS_CA"),
        (f"rediss://:{SECRET}@h?ssl_ca=/ca.pem", "no such option: ssl_ca"),
        (f"sentinel://h?service=m&sentinel_password=a&{SECRET}=b", "%-codes"),
        (f"redis://h?{SECRET}=b", "%-codes"),
        (f"redis://:{SECRET}@h?socket_time=1", "no such option: socket_time"),
        (f"redis://:{SECRET}\u2100@h", "%-codes"),
        (f"redis://:{SECRET}[drawn-at-random]@h", "%-codes"),
        (f"redis://:123#{SECRET}@h", "%-codes"),
        (f"sentinel://:{SECRET}@one,,two?service=m", "host:port"),
        (f" redis://:{SECRET}@h", "begins with redis://"),
        (f"unix:{SECRET}", "begins with redis://"),
    ],
)
def test_what_makes_no_sense_is_refused_and_not_quoted(url: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as refused:
        parse_redis_url(url)
    assert SECRET not in str(refused.value)


def test_a_ca_without_tls_is_refused() -> None:
    with pytest.raises(ValueError, match="rediss://"):
        with_ca("redis://:p@h", "/ca.pem")


def test_no_secret_is_in_the_repr() -> None:
    assert SECRET not in repr(
        parse_redis_url(f"sentinel://:{SECRET}@h?service=m&sentinel_password={SECRET}")
    )
