"""A folder of an object store, such as `gs://bucket/run` or `s3://bucket/run`.

Through fsspec: gcsfs for gs://, s3fs for s3://, and whatever else it knows.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from jaxmerge.errors import InputError

EXTRAS = {"gs": "gcs", "gcs": "gcs", "s3": "s3"}


def is_remote(folder: str | Path) -> bool:
    """Whether it is a URL and no path."""
    return "://" in str(folder)


class ObjectStore:
    """Files by their names below `url`. Raises InputError where fsspec lacks what reads it, and in every method where
    the store cannot be reached."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        protocol = self.url.partition("://")[0]
        import fsspec

        # A folder that others write to is looked at anew each time.
        options = {"use_listings_cache": False, "skip_instance_cache": True, "auto_mkdir": True}
        try:
            with self._reached():
                self._files, self._root = fsspec.core.url_to_fs(self.url, **options)
        except (ImportError, ValueError) as error:
            extra = EXTRAS.get(protocol)
            remedy = f"pip install jaxmerge[{extra}]" if extra else f"fsspec says: {error}"
            raise InputError(f"{self.url}: nothing here reads {protocol}://; {remedy}") from None

    def names(self) -> list[str]:
        with self._reached():
            found = []
            with suppress(FileNotFoundError):
                found = self._files.find(self._root)
            names = (str(path).removeprefix(self._root).lstrip("/") for path in found)
            # A name that leaves the folder is nobody's.
            return sorted(name for name in names if name and ".." not in Path(name).parts)

    def get(self, name: str, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        with self._reached():
            self._files.get_file(self._place(name), str(file))

    def put(self, file: Path, name: str) -> None:
        """Raises FileNotFoundError where there is no such file here."""
        with self._reached():
            self._files.put_file(str(file), self._place(name))

    def read(self, name: str) -> bytes | None:
        """None where there is none."""
        with self._reached(), suppress(FileNotFoundError):
            content: bytes = self._files.cat_file(self._place(name))
            return content
        return None

    def write(self, name: str, content: bytes) -> None:
        with self._reached():
            self._files.pipe_file(self._place(name), content)

    def remove(self, name: str) -> None:
        with self._reached(), suppress(FileNotFoundError):
            self._files.rm_file(self._place(name))

    def _place(self, name: str) -> str:
        return f"{self._root}/{name}"

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except (ImportError, ValueError, FileNotFoundError):
            raise
        except Exception as error:
            # Every store has errors of its own; what they say is what there is to say.
            words = " ".join(str(error).split())[:200] or type(error).__name__
            remedy = "check its name, and that you are logged in and may write there"
            raise InputError(f"{self.url}: cannot be read or written ({words}); {remedy}") from error
