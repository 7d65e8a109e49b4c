"""Compiled loops of drawing steps: stochastic beam search, best-first completion, bookkeeping of the mass handed out.

Legend: V vocabulary, W next tokens that a row of the trie keeps, L starts of a wave, K beams a start, C steps drawn, S tokens
of a step, cap trie nodes. `logprobs` [cap, W] and `choices` are the rows of the trie; the *place* of a token is its
position in the row of the node before it; `kinds` uint8 [V] and `after` int8 [M, K] tell where a step ends (`StepEnds`).
`entries` and `slots` are the packed records `ENTRY` and `SLOT` of `models.trie.sampling`: a slot is one start, an entry one
token prefix that was drawn there. All kernels change these two in place.

The helpers of `models.trie.kernels` are compiled in here: after a change there, remove the cached code (`__pycache__`).
"""

from __future__ import annotations

import math

import numpy as np

from kit.arithmetic import fast_exp, largest, splitmix64
from kit.jit import FAST, jit
from models.trie.step_ends import ENDS

NO_ENTRY = -1
# What stands in an entry's `node` while it has no trie node.
PENDING, ENDED, HANDED_OUT = -1, -2, -3  # not yet computed | a complete step, unseen | a complete step, seen
# What stands in an entry's `best_place` while it is no place.
STALE, SELF, NONE = -1, -2, -3  # must be looked up | the entry is itself an unseen step | nothing unseen below

BLOCK = 16  # tokens of a row that are looked at together
_MIN_REMAINING = 1e-9  # a fraction of an entry's own mass; what is less is rounding, not policy


@jit(inline="always")
def _uniform(word):
    """Uniform in the open interval (0, 1) from 64 bits."""
    return (np.float64(word >> np.uint64(11)) + 0.5) * (1.0 / 9007199254740992.0)


@jit(inline="always")
def _token(choices, logprobs, node, place):
    """The token at `place` of a node's row; one row of `choices` stands for all where they keep every token in order."""
    return choices[node if choices.shape[0] == logprobs.shape[0] else 0, place]


@jit(inline="always")
def _least_arrival(u):
    """At most -log u, and close to it unless u is small: the first terms of its series, none of them negative."""
    y = 1.0 - u
    return y * (1.0 + y * (0.5 + y * (1.0 / 3.0 + y * 0.25)))


@jit
def seeds_after(seeds, tokens, lengths):
    """seeds uint64 [C] of states become those of the states after steps tokens [C, S] of `lengths` [C]."""
    for c in range(seeds.size):
        for t in range(lengths[c]):
            seeds[c] = splitmix64(seeds[c] ^ np.uint64(tokens[c, t]))


@jit
def mixed(keys, trees):
    """uint64 [C]: keys [C] mixed with the trees [C] that they belong to; never 0."""
    out = np.empty(keys.size, np.uint64)
    for c in range(keys.size):
        out[c] = max(splitmix64(keys[c] ^ splitmix64(np.uint64(trees[c]))), np.uint64(1))
    return out


@jit
def _find_child(entries, entry, place):
    child = entries[entry].first_child
    while child != NO_ENTRY and entries[child].place != place:
        child = entries[child].next_sibling
    return child


@jit
def _add_child(entries, slots, n_entries, entry, place, token, share, logprob, kinds, after, max_tokens, stamp):
    """Record that `token` was sampled after `entry`. Returns the new entry, which is number `n_entries`."""
    child = n_entries
    parent, new = entries[entry], entries[child]
    slot = slots[parent.slot]
    new.hash = splitmix64(parent.hash ^ (np.uint64(token + 1) * np.uint64(0xD1342543DE82EF95)))
    new.weight = parent.weight * share
    new.remaining = 1.0
    new.logprob = parent.logprob + logprob
    new.parent, new.place, new.token, new.depth = entry, place, token, parent.depth + 1
    new.first_child, new.next_sibling = NO_ENTRY, parent.first_child
    new.slot, new.next_in_slot = parent.slot, slot.newest
    new.birth = stamp
    mode = after[parent.mode, kinds[token]]
    new.mode = mode
    ended = mode == ENDS or new.depth == max_tokens
    new.node = ENDED if ended else PENDING
    new.best_place = SELF if ended else STALE
    new.best_logprob = new.logprob
    parent.first_child = child
    parent.best_place = STALE
    slot.newest = child
    slot.new_tokens += 1
    return child


@jit(fastmath=FAST)
def _shares(row, temperature, prune, places, shares):
    """How many tokens have log pi >= `prune`: their places in order, and pi ** (1 / temperature) normalised over them.

    Most rows are nearly certain: blocks of tokens without a possible one are passed over.
    """
    count, top = 0, np.float32(-np.inf)
    for start in range(0, row.size, BLOCK):
        block = row[start : start + BLOCK]
        best = largest(block)
        top = max(top, best)
        if best >= prune and best > -np.inf:
            for v in range(block.size):
                places[count], shares[count] = start + v, block[v]
                count += block[v] >= prune and block[v] > -np.inf
    inverse = np.float32(1.0 / temperature)
    total = 0.0
    for i in range(count):
        shares[i] = fast_exp((np.float32(shares[i]) - top) * inverse)
        total += shares[i]
    scale = 1.0 / total
    for i in range(count):
        shares[i] *= scale
    return count


@jit
def _find_place(places, count, place):
    """Position of `place` among the first `count` of `places`, or `count`."""
    at = 0
    while at < count and places[at] != place:
        at += 1
    return at


@jit
def _refresh_best(entries, entry, logprobs, prune, unseen):
    """Look up the most probable token after `entry` that was not sampled yet; `unseen` float32 [W] is scratch."""
    row = logprobs[entry.node]
    if entry.first_child != NO_ENTRY:
        unseen[:] = row
        row = unseen
        child = entry.first_child
        while child != NO_ENTRY:
            unseen[entries[child].place] = -np.inf
            child = entries[child].next_sibling
    best = largest(row)
    place = NONE
    if best >= prune and best > -np.inf:
        place = 0
        while row[place] != best:
            place += 1
    entry.best_place = place
    entry.best_logprob = entry.logprob + (best if place != NONE else np.float32(-np.inf))


@jit
def sample_level(
    entries,
    slots,
    n_entries,
    beams,
    times,
    counts,
    logprobs,
    choices,
    temperature,
    prune,
    kinds,
    after,
    max_tokens,
    stamp,
):
    """One level of stochastic beam search: every beam is extended, the K earliest of each start are kept.

    Kool, van Hoof and Welling 2019, section 3 and appendix B, in the domain of arrival times: a Gumbel of location log w
    is -log of an arrival time Exp(w), the K largest Gumbels are the K earliest arrivals, and by the lack of memory the
    children of a prefix that arrives at T, given that their earliest is T, are their free arrivals shifted by T - min.
    This replaces the truncated Gumbels of the paper, is exact, and needs no logarithm for children that come too late.

    A weight w is the mass of a prefix under pi ** (1 / temperature) that has not been handed out.

    beams int32 [L, K]: entries; times float64 [L, K]: arrivals, ascending; counts int32 [L]: beams of each start. All three
    are replaced. Returns the new number of entries; new entries that are not steps are PENDING.
    """
    width = logprobs.shape[1]
    k = beams.shape[1]
    weights, draws, places = np.empty(width + 1), np.empty(width), np.empty(width + 1, np.int32)
    kept_times, kept_shares, kept_logprobs = np.empty(k), np.empty(k), np.empty(k)
    kept_entries, kept_places, extended = np.empty(k, np.int32), np.empty(k, np.int32), np.empty(k, np.int32)
    unseen = np.empty(width, np.float32)
    for leaf in range(beams.shape[0]):
        n_kept, n_beams = 0, counts[leaf]
        for beam in range(n_beams):
            e = beams[leaf, beam]
            entry = entries[e]
            arrival = times[leaf, beam]
            first, last, shift = 0, 0, 0.0
            if entry.node == ENDED:  # a step stays in the race with its own time
                first, last = -1, 0
            else:
                row = logprobs[entry.node]
                last = _shares(row, temperature, prune, places, weights)
                slot = slots[entry.slot]
                child = entry.first_child
                while child != NO_ENTRY:
                    weights[_find_place(places, last, entries[child].place)] *= entries[child].remaining
                    child = entries[child].next_sibling
                stream = splitmix64(entry.hash ^ splitmix64(splitmix64(slot.seed) + np.uint64(slot.round)))
                earliest = np.inf
                for i in range(last):
                    token = _token(choices, logprobs, entry.node, places[i])
                    u = _uniform(splitmix64(stream + np.uint64(token) * np.uint64(0x9E3779B97F4A7C15)))
                    draws[i] = u
                    w = weights[i] * entry.weight
                    weights[i] = w
                    if _least_arrival(u) < earliest * w:
                        draws[i] = math.log(u)  # negative: computed
                        earliest = min(earliest, -draws[i] / w)
                shift = arrival - earliest
            for i in range(first, last):
                time, place = arrival, -1
                if i >= 0:
                    w = weights[i]
                    if w == 0.0:
                        continue
                    if draws[i] > 0.0:
                        if n_kept == k and _least_arrival(draws[i]) >= (kept_times[k - 1] - shift) * w:
                            continue
                        draws[i] = math.log(draws[i])
                    time, place = -draws[i] / w + shift, places[i]
                if n_kept == k and time >= kept_times[k - 1]:
                    continue
                at = n_kept if n_kept < k else k - 1
                n_kept = min(n_kept + 1, k)
                while at > 0 and kept_times[at - 1] > time:
                    kept_times[at], kept_entries[at] = kept_times[at - 1], kept_entries[at - 1]
                    kept_places[at] = kept_places[at - 1]
                    kept_shares[at], kept_logprobs[at] = kept_shares[at - 1], kept_logprobs[at - 1]
                    at -= 1
                kept_times[at], kept_entries[at], kept_places[at] = time, e, place
                if place >= 0:
                    kept_shares[at], kept_logprobs[at] = w, row[place]
        counts[leaf] = n_kept
        for i in range(n_kept):
            e = kept_entries[i]
            place = kept_places[i]
            if place >= 0:
                child = _find_child(entries, e, place)
                if child == NO_ENTRY:
                    share = kept_shares[i] / entries[e].weight
                    token = _token(choices, logprobs, entries[e].node, place)
                    child = _add_child(
                        entries, slots, n_entries, e, place, token, share, kept_logprobs[i], kinds, after, max_tokens,
                        stamp,
                    )  # fmt: skip
                    n_entries += 1
                e = child
            extended[i] = e
        for beam in range(n_beams):  # while the rows are at hand
            entry = entries[beams[leaf, beam]]
            if entry.node != ENDED and entry.best_place == STALE:
                _refresh_best(entries, entry, logprobs, prune, unseen)
        for i in range(n_kept):
            beams[leaf, i], times[leaf, i] = extended[i], kept_times[i]
    return n_entries


@jit
def best_frontier(entries, slots, wave, logprobs, prune, best):
    """best [L]: the entry of each slot of `wave` [L] whose unseen continuation is the most probable; NO_ENTRY: none.

    The frontier is every sampled prefix's untaken tokens and the complete steps not handed out. Its `best_logprob` bounds
    every unseen step, as no continuation is more probable than its prefix.
    """
    unseen = np.empty(logprobs.shape[1], np.float32)
    for leaf in range(wave.size):
        slot = slots[wave[leaf]]
        best[leaf] = NO_ENTRY
        if entries[slot.root].remaining == 0.0:
            continue
        highest = -np.inf
        e = slot.newest
        while e != NO_ENTRY:
            entry = entries[e]
            if entry.best_place == STALE:
                _refresh_best(entries, entry, logprobs, prune, unseen)
            if entry.best_place != NONE and entry.best_logprob > highest:
                best[leaf], highest = e, entry.best_logprob
            e = entry.next_in_slot


@jit
def best_level(
    entries, slots, n_entries, current, logprobs, choices, temperature, prune, kinds, after, max_tokens, stamp
):
    """Extend each unfinished entry of `current` [A] by its most probable unseen token. Returns the number of entries."""
    width = logprobs.shape[1]
    unseen, places, weights = np.empty(width, np.float32), np.empty(width + 1, np.int32), np.empty(width + 1)
    for i in range(current.size):
        e = current[i]
        entry = entries[e]
        if entry.node < 0:
            continue
        if entry.best_place == STALE:
            _refresh_best(entries, entry, logprobs, prune, unseen)
        place = entry.best_place
        row = logprobs[entry.node]
        share = weights[_find_place(places, _shares(row, temperature, prune, places, weights), place)]
        token = _token(choices, logprobs, entry.node, place)
        current[i] = _add_child(
            entries, slots, n_entries, e, place, token, share, row[place], kinds, after, max_tokens, stamp
        )
        n_entries += 1
    return n_entries


@jit
def enter_token(
    entries, slots, n_entries, at, tokens, logprobs, choices, temperature, prune, kinds, after, max_tokens, stamp, found
):  # fmt: skip
    """found [L]: a new entry of `tokens` [L] after each of the entries `at` [L], NO_ENTRY where it is never drawn.

    Returns the number of entries.
    """
    places, weights = np.empty(logprobs.shape[1] + 1, np.int32), np.empty(logprobs.shape[1] + 1)
    for i in range(at.size):
        e = at[i]
        node = entries[e].node
        row = logprobs[node]
        found[i] = NO_ENTRY
        for j in range(_shares(row, temperature, prune, places, weights)):
            if _token(choices, logprobs, node, places[j]) == tokens[i]:
                found[i] = _add_child(
                    entries, slots, n_entries, e, places[j], tokens[i], weights[j], row[places[j]], kinds, after, max_tokens,
                    stamp,
                )  # fmt: skip
                n_entries += 1
    return n_entries


@jit
def hand_out(entries, slots, last, stamp, tokens, lengths, finished, new_tokens, parent_nodes):
    """Mark the steps that end in entries `last` [C] as seen, give their mass back and write them out.

    Results: tokens int32 [C, S], lengths int32 [C], finished bool [C], new_tokens int32 [C] (entries of this draw, `stamp`,
    each counted for the first step that ends below it), parent_nodes int32 [C] (the trie node before the last token).
    """
    for c in range(last.size):
        e = last[c]
        entry = entries[e]
        entry.node = HANDED_OUT
        entry.best_place = NONE
        slots[entry.slot].seen_mass += math.exp(entry.logprob)
        finished[c] = entry.mode == ENDS
        lengths[c] = entry.depth
        parent_nodes[c] = entries[entry.parent].node
        new_tokens[c] = 0
        lost = entry.remaining
        entry.remaining = 0.0
        while entry.parent != NO_ENTRY:
            tokens[c, entry.depth - 1] = entry.token
            if entry.birth == stamp:
                new_tokens[c] += 1
                entry.birth = 0
            parent = entries[entry.parent]
            before = parent.remaining
            parent.remaining = before - lost * (entry.weight / parent.weight)
            if parent.remaining < _MIN_REMAINING:
                parent.remaining = 0.0
            lost = before - parent.remaining
            entry = parent


@jit
def sample_tokens(logprobs, choices, nodes, seeds, positions, temperature, tokens, gained):
    """One independent token after each of trie `nodes` [A], by inversion of the cumulative distribution; argmax at 0.

    Noise: (seeds uint64 [A], positions int64 [A]). Results: tokens int32 [A], gained float64 [A] (log pi at temperature 1).
    """
    width = logprobs.shape[1]
    places, shares = np.empty(width + 1, np.int32), np.empty(width + 1)
    for i in range(nodes.size):
        row = logprobs[nodes[i]]
        place = 0
        if temperature == 0.0:
            for v in range(1, width):
                if row[v] > row[place]:
                    place = v
        else:
            count = _shares(row, temperature, np.float32(-np.inf), places, shares)
            left = _uniform(splitmix64(splitmix64(seeds[i]) + np.uint64(positions[i])))
            for j in range(count):
                place = places[j]
                left -= shares[j]
                if left < 0.0:
                    break
        tokens[i], gained[i] = _token(choices, logprobs, nodes[i], place), row[place]
