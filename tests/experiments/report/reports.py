"""Analyses of invented studies, with the shape and the statistics of real ones."""

import numpy as np
from scipy import stats

ARMS = {  # name -> (true mean of valid/nll, best learning rate, FLOPs, parameters)
    "sinusoidal": (2.384, 1e-3, 1.92e11, 6_310_912),
    "learned": (2.379, 1e-3, 1.92e11, 6_441_984),
    "none": (2.562, 1e-3, 1.91e11, 6_310_912),
    "rope": (2.341, 1e-3, 1.99e11, 6_310_912),
    "alibi": (2.347, 1e-3, 1.94e11, 6_310_912),
    "relative": (2.338, 3e-3, 2.31e11, 6_327_296),
}
RATES = (3e-4, 1e-3, 3e-3)
COMMAND = (
    "python -m tfm_jax.main --config=configs/transformer_numerals.py:tiny "
    "--workdir=runs/positions/{arm}-s{seed}-{id} --config.model.positions={arm} "
    "--config.seed={seed} --config.optim.peak_lr={rate}"
)


def example(arms=ARMS, seeds=5, tuned=True, diverged=None, points=40, **changes):
    """The analysis of a study of position encodings, as plain JSON.

    Args:
        arms: names, the baseline first; names that are not in ``ARMS`` are invented.
        diverged: {arm: [seeds lost]}. points: of each learning curve; 0 draws none.
        changes: top-level fields to replace.
    """
    names, diverged = list(arms), diverged or {}
    rng = np.random.default_rng(17)
    luck = rng.normal(0, 0.011, seeds)
    truths = {name: ARMS.get(name, (2.36, 1e-3, 2e11, 6_310_912)) for name in names}
    values = {
        name: {
            str(s): None
            if s in diverged.get(name, ())
            else float(truths[name][0] + luck[s] + rng.normal(0, 0.006))
            for s in range(seeds)
        }
        for name in names
    }
    tuning = _tuning(truths, rng) if tuned else []
    report = {
        "name": "positions",
        "scale": "cpu",
        "question": "Does the way positions enter a Transformer change how well it "
        "translates, once every arm is tuned as hard as the baseline?",
        "source": "Su et al. 2021, arXiv:2104.09864, table 2; Press et al. 2022, "
        "arXiv:2108.12409, section 3",
        "caveat": "Sentences are short at this scale, so nothing can be learned here "
        "about extrapolation to longer inputs, which is what ALiBi was made for.",
        "answer": "Yes: rotary, relative and ALiBi positions are better than sinusoids "
        "by about 0.04 nats a token, learned positions are not, and a model without "
        "positions is clearly worse.",
        "verdict": "REPRODUCED",
        "expectations": [
            {
                "text": "Rotary positions beat sinusoids (Su et al. 2021, table 2)",
                "claim": "published",
                "verdict": "REPRODUCED",
                "detail": "rope is better than sinusoidal, Holm-adjusted",
            },
            {
                "text": "Learned positions and sinusoids are nearly identical "
                "(Vaswani et al. 2017, table 3, row E)",
                "claim": "published",
                "verdict": "UNDERPOWERED",
                "detail": "the interval is wider than the smallest effect of interest",
            },
            {
                "text": "ALiBi is better than rotary positions",
                "claim": "check",
                "verdict": "NOT REPRODUCED",
                "detail": "no difference detected between alibi and rope",
            },
        ],
        "metric": "valid/nll",
        "goal": "min",
        "match": "steps",
        "unit": "tokens",
        "sesoi": 0.01,
        "solved": None,
        "baseline": names[0],
        "seeds": list(range(seeds)),
        "tune_seeds": [1000, 1001, 1002] if tuned else [],
        "looks": None,
        "detectable": {"power": 0.8, "source": "", "before": [], "after": []},
        "fixed_rate": "" if tuned else "optim.peak_lr=0.001",
        "exploratory": ["sesoi: 0.005 became 0.01"],
        "noise": {
            "identical": 0.0,
            "repeated": 1,
            "unlike": 0,
            "other_seeds": dict(mean=0.0013, low=-0.0171, high=0.0197, n=5),
        },
        "arms": _arms(names, truths, values, tuning),
        "curves": _curves(values, points, rng) if points else {},
        "measured": [],
        "tuning": tuning,
        "search": None,
        "environment": {
            "commit": "4f1c2d9e6b70",
            "python": "3.11.9",
            "jax": "0.10.2",
            "flax": "0.12.8",
            "device": "2 x CPU",
            "XLA_FLAGS": "",
        },
        "conditions": {},
        "mixed_environments": ["relative-s3: jax 0.10.1, all others 0.10.2"],
        "excluded": [{"id": "88ad0c31f2b7", "reason": "written by an older revision"}],
        "commands": [
            "python -m experiments.run positions run --scale=cpu",
            "python -m experiments.run positions report --scale=cpu",
        ],
        "written": "2026-11-21T10:00:00+00:00",
    }
    report["runs"] = _runs(report)
    return report | changes


def _arms(names, truths, values, tuning):
    base, compared, arms = values[names[0]], {}, []
    for name in names[1:]:
        own = values[name]
        seeds = [s for s in own if None not in (own[s], base[s])]
        compared[name] = _difference([own[s] for s in seeds], [base[s] for s in seeds])
    _holm([d for d in compared.values() if d and d["p"] is not None])
    for name in names:
        kept = [v for v in values[name].values() if v is not None]
        lost, total = len(values[name]) - len(kept), len(values[name])
        interval = stats.binomtest(lost, total).proportion_ci(method="exact")
        d = compared.get(name)
        chosen = [t["settings"] for t in tuning if t["arm"] == name and t["chosen"]]
        _, _, flops, parameters = truths[name]
        arms.append(
            {
                "name": name,
                "overrides": {"model.positions": name},
                "chosen": chosen[0] if chosen else {},
                "values": values[name],
                "n": len(kept),
                "mean": float(np.mean(kept)) if kept else None,
                "sd": float(np.std(kept, ddof=1)) if len(kept) > 1 else None,
                "difference": d,
                "word": "baseline" if name == names[0] else _word(d),
                "diverged": {
                    "count": lost,
                    "n": total,
                    "low": float(interval.low),
                    "high": float(interval.high),
                },
                "parameters": parameters,
                "flops_per_step": flops,
                "tokens": 12_288_000,
                "seconds": flops / 4.4e8,
                "memory_bytes": None,
                "edge": any(t["edge"] for t in tuning if t["arm"] == name),
            }
        )
    return arms


def _difference(own, base):
    if not own:
        return None
    apart, n = np.subtract(own, base), len(own)
    result = dict.fromkeys(
        (
            *("sd", "rho", "low", "high", "p", "p_holm", "low_holm", "high_holm"),
            *("sign_flip_p", "mde", "bca"),
        )
    )
    signs = np.sign(apart)
    counts = {"wins": -1, "losses": 1, "ties": 0}
    result |= {word: int((signs == sign).sum()) for word, sign in counts.items()}
    result |= {"mean": float(apart.mean()), "n": n}
    if n >= 2:
        result |= {"sd": float(apart.std(ddof=1))}
    if n >= 3:
        test = stats.ttest_rel(own, base)
        low, high = test.confidence_interval()
        result |= {"low": float(low), "high": float(high), "p": float(test.pvalue)}
        result["rho"] = float(stats.pearsonr(own, base).statistic)
        result["mde"] = float(3.3 * stats.sem(apart))
    return result


def _holm(differences):
    count, largest = len(differences), 0.0
    for rank, d in enumerate(sorted(differences, key=lambda d: d["p"])):
        largest = max(largest, min(1.0, (count - rank) * d["p"]))
        d["p_holm"] = largest
        share = stats.t.ppf(1 - 0.025 / (count - rank), d["n"] - 1)
        half = share * d["sd"] / d["n"] ** 0.5
        d["low_holm"], d["high_holm"] = d["mean"] - half, d["mean"] + half


def _word(difference):
    if difference is None:
        return "diverged"
    if difference["p"] is None:
        return "anecdotal"
    if difference["p_holm"] >= 0.05:
        return "no difference detected"
    return "better" if difference["mean"] < 0 else "worse"


def _tuning(truths, rng):
    trials = []
    for name, (nll, best, *_) in truths.items():
        for rate in RATES:
            loss = 0.16 * np.log10(rate / best) ** 2
            for seed in (1000, 1001, 1002):
                lost = name == "none" and rate == RATES[-1] and seed == 1002
                value = None if lost else float(nll + loss + rng.normal(0, 0.012))
                chosen = rate == best
                trials.append(
                    {
                        "arm": name,
                        "settings": {"optim.peak_lr": rate},
                        "seed": seed,
                        "value": value,
                        "chosen": chosen,
                        "edge": chosen and rate in (RATES[0], RATES[-1]),
                    }
                )
    return trials


def _curves(values, points, rng):
    steps = np.linspace(0, 4000, points + 1).astype(int)[1:]
    curves = {}
    for name, seeds in values.items():
        curves[name] = {}
        for seed, final in seeds.items():
            shape = 4.6 * np.exp(-steps / 420) + 0.35 * (1 - steps / steps[-1])
            noise = rng.normal(0, 0.012, points) * np.linspace(1, 0, points)
            line = (2.36 if final is None else final) + shape + noise
            kept = points if final is not None else points // 3
            rows = zip(steps[:kept].tolist(), line[:kept].tolist(), strict=True)
            curves[name][seed] = [list(row) for row in rows]
    return curves


def _runs(report):
    runs = []

    def add(arm, seed, phase, settings, value):
        id = f"{0x9E3779B97F4A * (len(runs) + 1) % 16**12:012x}"
        rate = settings.get("optim.peak_lr", 1e-3)
        lost = value is None
        runs.append(
            {
                "id": id,
                "arm": arm,
                "seed": seed,
                "phase": phase,
                "settings": settings,
                "status": "diverged" if lost else "done",
                "metric": value,
                "attempts": 1,
                "seconds": None if lost else 437.2,
                "directory": f"runs/positions/{arm}-s{seed}-{id}",
                "command": COMMAND.format(arm=arm, seed=seed, id=id, rate=rate),
                "error": "step 1310: loss is nan\nthe run stops here" if lost else "",
            }
        )

    for t in report["tuning"]:
        add(t["arm"], t["seed"], "tune", t["settings"], t["value"])
    for arm in report["arms"]:
        for seed, value in arm["values"].items():
            add(arm["name"], int(seed), "final", arm["chosen"], value)
    return runs
