"""Redis URLs and host lists are taken apart, and what is wrong with one is said."""

import pytest

from streams.service.addresses import RedisAddress, host_ports, redis_address


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://h", RedisAddress("single", False, (("h", 6379),), None, None, 0, "")),
        ("redis://h:1/3", RedisAddress("single", False, (("h", 1),), None, None, 3, "")),
        ("rediss://app:p%40ss@[::1]:7", RedisAddress("single", True, (("::1", 7),), "app", "p@ss", 0, "")),
        ("redis://:only@h", RedisAddress("single", False, (("h", 6379),), None, "only", 0, "")),
        ("redis+cluster://a:1,b:2", RedisAddress("cluster", False, (("a", 1), ("b", 2)), None, None, 0, "")),
        ("rediss+cluster://u:p@a:1", RedisAddress("cluster", True, (("a", 1),), "u", "p", 0, "")),
        (
            "redis+sentinel://a,b:2/shop",
            RedisAddress("sentinel", False, (("a", 26379), ("b", 2)), None, None, 0, "shop"),
        ),
        ("redis+sentinel://a/shop/2", RedisAddress("sentinel", False, (("a", 26379),), None, None, 2, "shop")),
    ],
)
def test_a_url_is_taken_apart(url: str, address: RedisAddress) -> None:
    assert redis_address(url) == address


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("h:6379", "scheme"),
        ("http://h", "scheme"),
        ("redis+other://h", "scheme"),
        ("redis://", "scheme"),
        ("redis://h:x", "not host:port"),
        ("redis://h:70000", "not host:port"),
        ("redis://h/x", "database"),
        ("redis://h/0?a=1", "after the database"),
        ("redis://a,b", "several hosts"),
        ("redis+cluster://a/1", "Cluster"),
        ("redis+sentinel://a", "Sentinel service"),
    ],
)
def test_a_wrong_url_is_explained_with_the_forms_that_work(url: str, what: str) -> None:
    with pytest.raises(ValueError, match=rf"^KAIROS_REDIS .*{what}.*; write redis://host:port/db"):
        redis_address(url)


def test_an_address_shows_no_password() -> None:
    assert str(redis_address("rediss+cluster://u:hush@a:1,b:2")) == "rediss+cluster://a:1,b:2"


def test_hosts_without_a_default_need_a_port() -> None:
    assert host_ports("a:1, [::1]:2") == (("a", 1), ("::1", 2))
    with pytest.raises(ValueError, match="'a', which is not host:port"):
        host_ports("a")
