"""Measure a function once, and ask how it would run in every other memory size and which one to use.

    python examples/04-predict-and-recommend.py

The model ships with the package. The same on the command line: `flashfm predict shots.csv`, `flashfm recommend
shots.csv`.
"""

from __future__ import annotations

import pandas as pd

import flashfm

MEASURED = pd.DataFrame({"memory_mb": [3008], "runtime_ms": [42.4], "user_cpu_ms_mean": [38.0]})


def main() -> None:
    model = flashfm.FlashRegressor.from_pretrained("serverless-memory")
    adapted = model.adapt(MEASURED)
    print(adapted.predict().round(1).to_string(index=False))  # with 90 % intervals
    print(adapted.predict(pd.DataFrame({"memory_mb": [1536]})).round(1).to_string(index=False, header=False))

    decision = adapted.recommend("cost", price=flashfm.LambdaPrice(), max_slowdown=1.2)
    if isinstance(decision, flashfm.Declined):
        print("no recommendation:", decision.reason)
        print("what would help:", decision.mend)
    else:
        print("use", decision.config, f"({decision.confidence})")
        print(*(f"- {sentence}" for sentence in decision.why), sep="\n")
    following = adapted.next_measurement()
    print("measure next:", following.config, "since", following.why)


if __name__ == "__main__":
    main()
