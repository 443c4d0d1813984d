"""Rows into an endless, resumable stream of batches."""

import bisect
import functools

import numpy as np

from tfm_jax.data.rows import packing
from tfm_jax.data.watchdog import awaited, patience


def _pairs(rows, chosen, epochs):
    del epochs  # the same in all of them
    return packing.make_batch(rows, chosen)


class BatchSource:
    """Batch ``i`` of a run as a pure function of (seed, i): random access for Grain.

    Rows of one shape form an endless stream, epoch after epoch, each epoch in its own
    order; a batch takes the next rows of one stream, across the end of an epoch if it
    must. So every window of one epoch's rows that starts at a multiple of their number
    holds each row exactly once, and no batch is ever partial. Batches of different
    shapes are mixed in proportion, in an order drawn anew for each epoch.
    """

    def __init__(
        self, row_sets, sizes, *, total, seed, shuffle, part=(0, 1), make=_pairs
    ):
        """Args.

        row_sets: named tuples whose first field has the rows; one per row shape.
        part: (process index, process count); each gets a slice of the rows.
        make: (rows, chosen [B], epochs [B]) -> the batch of the chosen rows.
        """
        self._sets, self._sizes, self._total = row_sets, sizes, total
        self._seed, self._shuffle, self._part = seed, shuffle, part
        self._make = make
        self._order = functools.lru_cache(4 * len(row_sets))(self._order)
        self._epoch = functools.lru_cache(2)(self._epoch)

    def __len__(self):
        return self._total

    def __getitem__(self, index):
        epoch = bisect.bisect_right(range(index + 2), index, key=self._before) - 1
        shape, batch = self._epoch(epoch)[index - self._before(epoch)]
        rows, size = self._sets[shape], self._sizes[shape]
        index, count = self._part
        share = size // count
        places = batch * size + index * share + np.arange(share)
        epochs, places = np.divmod(places, len(rows[0]))
        chosen = [
            self._order(shape, one)[places[epochs == one]] for one in np.unique(epochs)
        ]
        return self._make(rows, np.concatenate(chosen), epochs)

    def _complete(self, shape, epochs):
        """Batches of a shape that its first ``epochs`` epochs fill."""
        return epochs * len(self._sets[shape][0]) // self._sizes[shape]

    def _before(self, epochs):
        return sum(self._complete(shape, epochs) for shape in range(len(self._sets)))

    def _epoch(self, epoch):
        """The (shape, batch number) pairs of an epoch, in order."""
        batches = [
            (shape, number)
            for shape in range(len(self._sets))
            for number in range(
                self._complete(shape, epoch), self._complete(shape, epoch + 1)
            )
        ]
        if self._shuffle:
            np.random.default_rng((self._seed, epoch)).shuffle(batches)
        return batches

    def _order(self, shape, epoch):
        count = len(self._sets[shape][0])
        if not self._shuffle:
            return np.arange(count)
        return np.random.default_rng((self._seed, epoch, shape + 1)).permutation(count)


class TrainBatches:
    """Iterator over training batches whose state is a few numbers of plain JSON."""

    def __init__(self, source, *, start, prefetch, identity, timeout_seconds=0.0):
        import grain

        self._dataset = grain.MapDataset.source(source)
        self._options = grain.ReadOptions(int(prefetch > 0), prefetch)
        self._identity = identity
        self._timeout_seconds = timeout_seconds
        self._go_to(start)

    def __iter__(self):
        return self

    def __next__(self):
        with patience(self._timeout_seconds), awaited("the next batch"):
            batch = next(self._batches)
        self._next += 1
        return batch

    def get_state(self):
        """Where the iterator stands and on what data; plain JSON."""
        return {"next_batch": self._next, **self._identity}

    def set_state(self, state):
        """Continues where ``state`` was taken.

        Raises: ValueError naming what differs, if it was taken on other data, with
            another tokenizer or with other batches.
        """
        differ = [
            f"{name}: {state.get(name)!r} then, {now!r} now"
            for name, now in self._identity.items()
            if state.get(name) != now
        ]
        if differ:
            raise ValueError(
                f"cannot continue the data of this checkpoint; {'; '.join(differ)}"
            )
        self._go_to(state["next_batch"])

    def _go_to(self, index):
        self._next = index
        self._batches = iter(self._dataset[index:].to_iter_dataset(self._options))
