"""Collectives and memory traffic of compiled programs, as their text says."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from tfm_jax.train.aot import hlo

SIZE = 4 * 48  # bytes of an array in these programs


def compiled(function, count=4):
    """``function`` of one device's share of an array, on ``count`` devices."""
    devices = jax.devices()[:count]
    mesh = jax.make_mesh((count,), ("data",), (AxisType.Auto,), devices=devices)
    spread = jax.shard_map(
        function, mesh=mesh, in_specs=P("data"), out_specs=P("data"), check_vma=False
    )
    x = jax.ShapeDtypeStruct((count * 48,), jnp.float32)
    return hlo.read(jax.jit(spread).lower(x).compile().as_text())


def test_a_collective_counts_with_the_whole_array_and_what_is_sent_of_it():
    found = compiled(lambda x: jax.lax.psum(x, "data"))
    assert found.counts == {"all-reduce": 1} and found.sizes == {"all-reduce": SIZE}
    assert found.sent == 2 * 3 / 4 * SIZE, "a ring sends it twice, but for its own part"
    found = compiled(lambda x: jax.lax.all_gather(x, "data", tiled=True)[:48])
    assert found.sizes == {"all-gather": 4 * SIZE} and found.sent == 3 * SIZE
    found = compiled(lambda x: jax.lax.ppermute(x, "data", [(0, 1), (1, 0)]))
    assert found.sizes == {"collective-permute": SIZE} and found.sent == SIZE


def test_what_is_in_a_loop_counts_as_often_as_it_runs():
    def summed(x):
        return jax.lax.scan(
            lambda carry, _: (jax.lax.psum(jnp.sin(carry), "data"), None), x, length=7
        )[0]

    found = compiled(summed)
    assert found.counts == {"all-reduce": 7} and found.unknown_loops == 0
    assert found.sizes == {"all-reduce": 7 * SIZE}

    def until(x):
        return jax.lax.while_loop(
            lambda x: jnp.max(x) < 1, lambda x: jax.lax.psum(x, "data"), x
        )

    assert compiled(until).unknown_loops == 1
    assert compiled(until).counts == {"all-reduce": 1}


def test_a_loop_over_layers_reads_each_of_them_once():
    """Not all of them in each step."""

    def stack(x, layers):
        return jax.lax.scan(lambda x, layer: (jnp.sin(x @ layer), None), x, layers)[0]

    arrays = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((64, 64), (20, 64, 64))]
    text = jax.jit(stack).lower(*arrays).compile().as_text()
    layer = 4 * 64 * 64
    assert 20 * 3 * layer <= hlo.read(text).moved <= 20 * 12 * layer


PROGRAM = """
%begun (p: f32[6]) -> f32[24] {
  %p = f32[6]{0} parameter(0)
  ROOT %gather.1 = f32[24]{0} all-gather(%p), channel_id=3, replica_groups=GROUPS
}

%ended (q: f32[6]) -> f32[24] {
  %q = f32[6]{0} parameter(0)
  ROOT %gather.2 = f32[24]{0} all-gather(%q), channel_id=3, replica_groups=GROUPS
}

%body (s: (s32[], f32[6])) -> (s32[], f32[6]) {
  %s = (s32[]{:T(128)}, f32[6]{0:T(256)}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%s), index=0
  %x = f32[6]{0:T(256)} get-tuple-element(%s), index=1
  %start = f32[24]{0:T(256)S(1)} fusion(%x), kind=kCustom, calls=%begun
  %done = f32[24]{0:T(256)S(1)} fusion(%x), kind=kCustom, calls=%ended
  %sum.1 = f32[6]{0:T(256)S(1)} all-reduce(%x), channel_id=4, replica_groups=GROUPS
  %sum.2 = f32[6]{0:T(256)S(1)} all-reduce(%x), channel_id=4, replica_groups=GROUPS
  ROOT %t = (s32[]{:T(128)}, f32[6]{0:T(256)}) tuple(%i, %x)
}

%condition (s.1: (s32[], f32[6])) -> pred[] {
  %s.1 = (s32[]{:T(128)}, f32[6]{0:T(256)}) parameter(0)
  %n = s32[]{:T(128)} constant(5)
  %i.1 = s32[]{:T(128)} get-tuple-element(%s.1), index=0
  ROOT %lt = pred[]{:T(512)} compare(%i.1, %n), direction=LT
}

ENTRY %main (a: (s32[], f32[6])) -> (s32[], f32[6]) {
  %a = (s32[]{:T(128)}, f32[6]{0:T(256)}) parameter(0)
  ROOT %w = (s32[]{:T(128)}, f32[6]) while(%a), condition=%condition, body=%body
}
"""


@pytest.mark.parametrize(
    "groups",
    [
        "{{0,1,2,3},{4,5,6,7}}",
        "[2,4]<=[8]",
        "[2,4]<=[4,2]T(1,0)",
        "mesh['a'=2,'b'=4] {'b'}",
        "mesh['a'=2,'b'=4], device_ids=([2,4]T(1,0)) {'b'}",
        "mesh['a'=2,'b'=8] {'a','b':(2)2}",
    ],
)
def test_a_gathering_of_a_tpu_in_two_halves_counts_once(groups):
    """Its loop says how often it runs in its condition alone; VMEM is not moved."""
    found = hlo.read(PROGRAM.replace("GROUPS", groups))
    assert found.counts == {"all-gather": 5, "all-reduce": 10}
    assert found.sizes == {"all-gather": 5 * 4 * 24, "all-reduce": 10 * 4 * 6}
    assert found.sent == (5 * 4 * 24 + 2 * 10 * 4 * 6) * 3 / 4
    assert found.moved == 5 * 4 * 4 * 6, "what is gathered lies in other memory"
