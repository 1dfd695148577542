"""URLs without the secrets in them, for logs, answers and identifiers. Pure."""

import re
from urllib.parse import unquote

MASK = "***"
_USER = re.compile(r"(?<=//)[^/?#]*@")
_VALUE = re.compile(r"(?<==)[^&;#]*")
_SHORT = re.compile(r"[0-9]{1,3}|true|false|")  # page=2&of=4, which tell one service from another


def masked_url(url: str) -> str:
    """Return the URL without its user, and with every value of its query masked but short numbers."""
    address, mark, query = _USER.sub(f"{MASK}@", url).partition("?")
    if not mark:
        return address
    if "=" not in query:
        return f"{address}?{query if _SHORT.fullmatch(query) else MASK}"
    return address + "?" + _VALUE.sub(lambda value: _kept(value[0]), query)


def masked(text: str, url: str) -> str:
    """Return a text in which a URL, or what is secret in it, may stand, without these."""
    text = text.replace(url, masked_url(url))
    for secret in _secrets(url):
        text = text.replace(secret, MASK).replace(unquote(secret), MASK)
    return text


def _kept(value: str) -> str:
    return value if _SHORT.fullmatch(value) else MASK


def _secrets(url: str) -> list[str]:
    """Return the URL's user, password and long values, the longest first."""
    user = [part for found in _USER.findall(url) for part in (found[:-1], *found[:-1].split(":", 1))]
    values = [value for value in _VALUE.findall(url.partition("?")[2]) if _kept(value) == MASK]
    return sorted(filter(None, (*user, *values)), key=len, reverse=True)
