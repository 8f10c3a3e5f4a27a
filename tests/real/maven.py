"""Apache Kafka's jars by Maven, kept in a folder: 46 files, 43 MB, fetched once a version."""

import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.real.process import PartMissing

KAFKA_VERSION = "4.1.0"
SCALA_VERSION = "2.13"
SLF4J_VERSION = "1.7.36"

POM = f"""<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>leadline.tests</groupId>
  <artifactId>kafka</artifactId>
  <version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_{SCALA_VERSION}</artifactId>
      <version>{KAFKA_VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId>
      <artifactId>slf4j-simple</artifactId>
      <version>{SLF4J_VERSION}</version>
    </dependency>
  </dependencies>
</project>
"""


def fetch_jars(folder: Path) -> Path:
    """The folder of jars below `folder`, fetched now unless it is there. `PartMissing` where they cannot be had."""
    jars = folder / f"kafka-{KAFKA_VERSION}"
    if jars.is_dir():
        return jars
    maven = shutil.which("mvn")
    if maven is None:
        raise PartMissing("mvn is not on PATH: it fetches Apache Kafka's jars")
    folder.mkdir(parents=True, exist_ok=True)
    # Fetched beside and renamed when whole: a fetch that was cut off, or runs twice at once, leaves no half a folder.
    with tempfile.TemporaryDirectory(dir=folder, prefix="fetch-") as work:
        (Path(work) / "pom.xml").write_text(POM)
        fetched = subprocess.run(
            [maven, "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=libs"],
            cwd=work,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        if fetched.returncode != 0:
            raise PartMissing(f"mvn could not fetch Apache Kafka's jars: {(fetched.stdout + fetched.stderr)[-2_000:]}")
        try:
            (Path(work) / "libs").rename(jars)
        except OSError:
            if not jars.is_dir():  # another run was faster
                raise
    return jars
