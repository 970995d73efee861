"""The stock providers load: ids and names of v1, and every plugin they name that is installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from karbor.providers import load_providers
from karbor.sdk.loading import BANKS, PROTECTIONS, load

EXAMPLES = Path(__file__).parents[2] / "examples" / "providers.d"
STOCK = {
    "b766f37c-d011-4026-8228-28730d734a3f": "No-Op Provider",
    "cf56bd3e-97a7-4078-b6d5-f36246333fd9": "OS Infra Provider",
    "e3982e71-f44d-4b09-8abd-3e53e4b80d10": "OS Kubernetes Provider",
    "6659007d-6f66-4a0f-9cb4-17d6aded0bb9": "OS Infra Provider with local file system bank",
    "90d5bfea-a259-41e6-80c6-dcfcfcd9d827": "OS Infra Provider with volume snapshot plugin",
}


@pytest.fixture(scope="module")
def providers():
    return load_providers(EXAMPLES, load(PROTECTIONS), load(BANKS), {})


def test_the_stock_providers_have_their_ids_and_names(providers):
    assert providers.problems == {}
    names = {provider.id: provider.name for provider in providers.all()}
    assert {ident: names.get(ident) for ident in STOCK} == STOCK


def test_every_schema_can_be_shown(providers):
    for provider in providers.all():
        assert set(provider.schemas()["options_schema"]) == set(provider.types)
