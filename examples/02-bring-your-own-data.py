"""Turn measurements of your own into a MeasurementTable, look at it, and keep it as Parquet.

    python examples/02-bring-your-own-data.py

A table needs the application, one configuration column and the run time; the platform and everything else may be
absent. The schema is in docs/data.md.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from flashfm.datasets import MeasurementTable
from flashfm.errors import DataFormatError

YOURS = """\
function,cloud,memory_mb,architecture,mean_duration_ms,user_cpu_ms_mean,outcome
thumbnail,lambda,128,arm,812.4,101.2,ok
thumbnail,lambda,512,arm,204.9,101.0,ok
thumbnail,lambda,512,x86,231.0,113.4,ok
report,lambda,128,arm,,,out_of_memory
report,lambda,512,arm,1530.2,702.7,ok
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "mine.csv"
        source.write_text(YOURS)
        table = MeasurementTable.read(  # your names for the three columns that are needed, and for the platform
            source,
            app_column="function",
            platform_column="cloud",
            target="mean_duration_ms",
            config_columns=["memory_mb", "architecture"],
        )
        print(table)
        print(table.configurations.to_string(index=False))
        print("metrics:", ", ".join(table.metric_names))
        print("rows that ended well:", len(table.ok()))

        kept = Path(folder) / "mine.parquet"
        table.write(kept)
        print("read back:", MeasurementTable.read(kept))

        source.write_text(YOURS.replace("204.9", "about 200"))
        try:
            MeasurementTable.read(source, app_column="function", platform_column="cloud", target="mean_duration_ms")
        except DataFormatError as error:
            print("refused:", str(error).replace(f"{folder}/", ""))


if __name__ == "__main__":
    main()
