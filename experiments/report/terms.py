"""The words of the report, explained to its reader."""

TERMS = {
    "arm": "One variant of the model, trained with several seeds. The baseline is the "
    "arm that all others are compared with.",
    "seed": "Fixes the initial weights, the order of the data and dropout. Arms share "
    "their seeds, so the runs of a pair read the same data in the same order.",
    "n": "Runs of an arm that finished with a number.",
    "difference": "Arm minus baseline for each seed, then the mean.",
    "95 % interval": "Paired t interval of that mean (n − 1 degrees of freedom): a "
    "procedure that covers the true difference in 95 studies of 100; wider where it is "
    "adjusted. An arm's verdict says where it lies.",
    "p (Holm)": "Probability of a difference at least this large if there were none. "
    "It and the interval are adjusted for the number of arms that no finding compares "
    "with the baseline (Holm 1979). One that a finding compares is tested alone: the "
    "verdict needs all.",
    "p, sign flip": "The same without assuming normal differences: exact, from six "
    "pairs on.",
    "95 %, BCa": "The same interval by the bias-corrected bootstrap, as a check; from "
    "twenty pairs on.",
    "diverged": "Runs whose loss stopped being finite, of all runs, with the 95 % "
    "Clopper-Pearson interval of that rate.",
    "smallest effect of interest": "Smaller differences would not matter in practice. "
    "It was stated before the runs, unless it is listed above as changed.",
    "noise floor": "The baseline against itself with other seeds: what no change "
    "at all looks like.",
    "ρ": "Correlation of arm and baseline over seeds; pairing helps when positive.",
    "MDE": "Minimum detectable effect: the true difference that this number of seeds "
    "finds in four studies of five, at the strictest step of Holm's adjustment.",
}
LOOKS = {  # of a group-sequential study
    "look": "An analysis. The study grew batch by batch and ended as soon as all was "
    "decided. Its 95 % intervals are repeated confidence intervals (Jennison & "
    "Turnbull 2000, chapter 9): those of all looks together cover the true difference "
    "in 95 studies of 100, whatever made it end. A p is the smallest alpha over all "
    "looks at which this one would find a difference; Holm's adjustment follows.",
}
WORDS = {  # what an arm's verdict means
    "better": "The 95 % interval lies on the good side of zero.",
    "worse": "The same on the bad side.",
    "negligibly better": "The interval lies on the good side of zero and within the "
    "smallest effect of interest: a difference, too small to matter.",
    "negligibly worse": "The same on the bad side.",
    "equivalent": "The interval includes zero and lies within the smallest effect of "
    "interest.",
    "no difference detected": "Not shown to be any of these, which is no evidence of "
    "equality: the MDE says how large a difference these seeds would have found.",
    "no difference after Holm": "The interval includes zero; not adjusted for the "
    "number of arms, it would not.",
    "undecided": "The pairs that survived speak for the side that lost seeds. A "
    "diverged run ranks worst (Lachin 1999), so they cannot decide.",
    "diverged (verdict)": "Most runs did, which is a result of its own.",
    "baseline diverged": "Most runs of the baseline did.",
    "anecdotal": "Fewer than three pairs, or at a look before the last a few that all "
    "differ by the same, so nothing can be said about chance.",
    "at the edge": "Its best tuned value is the last of its grid, or at the end of its "
    "range; a better one may lie beyond, so it is not compared.",
    "baseline at the edge": "That of the baseline is.",
    "incomplete": "Runs are still missing.",
}
ENVIRONMENT = {  # what a run has recorded of itself -> what a page calls it
    "code": "code (tree of tfm_jax in git, or digest of files)",
    "changes": "uncommitted changes (digest)",
}
