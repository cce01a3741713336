"""Manifests: each commits the data files of a run, an analysis, a profile, or a segment of many.

A manifest is JSON. It lists its data files with their hashes, and its owners: the runs (or
profiles) with rows in these files. A manifest without owners is void: garbage collection creates it
in place of a writer that has died, so that a late commit of deleted files fails.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from pydantic import ValidationError

from prunelake.errors import CorruptFile, WrongFormat, one_line
from prunelake.frozen_value import FrozenValue
from prunelake.lake.files import hashed_json
from prunelake.lake.files.listed_file import ListedFile
from prunelake.lake.files.paths import (
    RETIRED_SUFFIX,
    ManifestName,
    data_file,
    is_segment,
    parse_manifest,
)
from prunelake.lake.storage.location import Location, list_folder
from prunelake.lake.storage.reading import prefetch_all
from prunelake.schema.analysis_tables import ANALYSIS_TABLES, ANALYSIS_VERSION
from prunelake.schema.table import FORMAT_VERSION, TableGroup


class Owner(FrozenValue):
    """A run or profile with rows in the files of a manifest.

    `commit` identifies the measurement: the first digits of the hash of its row in the owner table.
    An analysis has the commit of its run. `rows` has the number of rows by table.
    """

    commit: str
    generation: int
    rows: Mapping[str, int]


class Manifest(FrozenValue):
    """The content of a manifest: data files by table, and owners by id."""

    format_version: int = FORMAT_VERSION
    analysis_version: int | None = None
    owners: Mapping[str, Owner] = {}
    files: Mapping[str, ListedFile] = {}


VOID = Manifest()


@dataclass(frozen=True)
class StoredManifest:
    """A manifest in a lake. Readers take the rows of `run_ids` (or profiles) from its files."""

    path: Location
    content: Manifest
    run_ids: frozenset[str]

    @property
    def name(self) -> ManifestName:
        """The entry and the generation of this manifest."""
        name = parse_manifest(self.path)
        assert name is not None, self.path
        return name

    @property
    def all_run_ids(self) -> frozenset[str]:
        """The runs (or profiles) with rows in these files."""
        return frozenset(self.content.owners)

    @property
    def files(self) -> Mapping[str, ListedFile]:
        """The listed data files, by table."""
        return self.content.files

    def file(self, table: str) -> Location | None:
        """The file with the rows of a table; None if there is none."""
        listed = self.files.get(table)
        if listed is None:
            return None
        return data_file(self.path.parent.parent, table, self.name, listed.sha256)


@dataclass(frozen=True)
class Damage:
    """A damaged file, its manifest, and the runs (or profiles) that it hides from readers.

    `owners` is empty if a damaged manifest does not say which they are.
    """

    file: Location
    problem: str
    group: TableGroup
    manifest: ManifestName
    owners: frozenset[str]


@dataclass(frozen=True)
class GroupManifests:
    """All manifests of a group of tables, except retired and void ones, and the damaged ones."""

    group: TableGroup
    stored: tuple[StoredManifest, ...]
    retired: frozenset[ManifestName]
    damaged: tuple[Damage, ...]

    def select(
        self,
        wanted: Collection[str] | None = None,
        commits: Mapping[str, str] | None = None,
        without: Collection[Location] = (),
    ) -> list[StoredManifest]:
        """The manifests with the runs that readers take from each.

        A run in several manifests has the same rows in all of them. Segments with more visible runs
        come first, so that readers open few files. `commits` has the commit of each visible run: an
        analysis of another commit, or of another version, is not selected. `without` are damaged
        manifests.
        """
        visible = {
            manifest.path: {
                owner_id
                for owner_id, owner in manifest.content.owners.items()
                if self._is_visible(manifest.content, owner_id, owner, commits)
            }
            for manifest in self.stored
            if manifest.path not in without
        }

        def reading_order(manifest: StoredManifest) -> tuple[bool, int, int, str]:
            count = len(visible[manifest.path])
            owner_count = len(manifest.content.owners)
            return not is_segment(manifest.path), -count, owner_count, manifest.path.name

        taken: set[str] = set()
        selected = []
        for manifest in sorted((m for m in self.stored if m.path in visible), key=reading_order):
            mine = visible[manifest.path] - taken
            if wanted is not None:
                mine.intersection_update(wanted)
            taken |= mine
            selected.append(StoredManifest(manifest.path, manifest.content, frozenset(mine)))
        return selected

    def _is_visible(
        self, content: Manifest, owner_id: str, owner: Owner, commits: Mapping[str, str] | None
    ) -> bool:
        if self.group is ANALYSIS_TABLES and content.analysis_version != ANALYSIS_VERSION:
            return False
        if commits is not None and commits.get(owner_id) != owner.commit:
            return False
        return own_name(self.group, content, owner_id) not in self.retired


def read_group(
    lake: Location, group: TableGroup, wanted: Collection[str] | None = None
) -> GroupManifests:
    """Read the manifests of a group; with `wanted` only these single runs and all segments.

    Raises:
        WrongFormat: an undamaged manifest of another format version.
    """
    manifests, is_whole = _read_listed(lake, group, wanted)
    if not is_whole:
        # Garbage collection removed a manifest meanwhile: a new list has its segment.
        manifests, _ = _read_listed(lake, group, wanted)
    return manifests


def _read_listed(
    lake: Location, group: TableGroup, wanted: Collection[str] | None
) -> tuple[GroupManifests, bool]:
    """The listed manifests of a group, and whether all of them were still there."""
    folder = lake / group.owner_table.name
    paths: dict[ManifestName, Location] = {}
    retired = set()
    for path in list_folder(folder):
        name = parse_manifest(path)
        if name is None:
            _check_layout(path)
        elif path.suffix == RETIRED_SUFFIX:
            retired.add(name)
        elif wanted is None or is_segment(path) or owner_of_entry(group, name.entry) in wanted:
            paths[name] = path
    stored, damaged = [], []
    is_whole = True
    names = [name for name in paths if name not in retired]
    for name, path in zip(names, prefetch_all([paths[name] for name in names]), strict=True):
        try:
            content = decode(path)
        except CorruptFile as error:
            owners = () if is_segment(path) else (owner_of_entry(group, name.entry),)
            damaged.append(Damage(path, str(error), group, name, frozenset(owners)))
        except FileNotFoundError:
            is_whole = False
        else:
            if content != VOID:
                stored.append(StoredManifest(path, content, frozenset()))
    manifests = GroupManifests(group, tuple(stored), frozenset(retired), tuple(damaged))
    return manifests, is_whole


def check_one_format(lake: Location, group: TableGroup) -> None:
    """Look at one undamaged manifest of a group, because a lake holds one format only.

    Raises:
        WrongFormat: a manifest of another format version.
    """
    for path in list_folder(lake / group.owner_table.name, "*.json"):
        with suppress(CorruptFile, FileNotFoundError):
            decode(path)
            return


def decode(path: Location) -> Manifest:
    """The content of a manifest.

    Raises:
        CorruptFile: the manifest is not as it was written.
        WrongFormat: a manifest of another format version.
        FileNotFoundError: no such manifest.
    """
    content = hashed_json.decode(path)
    version = content.get("format_version")
    if version != FORMAT_VERSION:
        raise WrongFormat(
            f"{path} has format {version}, and this version of PruneLake reads format "
            f"{FORMAT_VERSION}; use the version that wrote it, or another lake folder and sweep "
            "again"
        )
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        raise CorruptFile(f"it is not a manifest ({one_line(error)})") from error


def entry_name(group: TableGroup, owner_id: str, commit: str, analysis_version: int | None) -> str:
    """The entry of a single run, analysis or profile."""
    if group is ANALYSIS_TABLES:
        return f"{owner_id}-{commit}-v{analysis_version}"
    return owner_id


def own_name(group: TableGroup, content: Manifest, owner_id: str) -> ManifestName:
    """The name of the manifest of a run (or profile) alone; `content` may be of a segment."""
    owner = content.owners[owner_id]
    entry = entry_name(group, owner_id, owner.commit, content.analysis_version)
    return ManifestName(entry, owner.generation)


def owner_of_entry(group: TableGroup, entry: str) -> str:
    """The run or profile of an entry that is no segment."""
    return entry.rsplit("-", 2)[0] if group is ANALYSIS_TABLES else entry


def readable_run_ids(manifests: Iterable[StoredManifest]) -> list[str]:
    """The runs that readers take from these manifests, sorted."""
    return sorted(frozenset[str]().union(*(manifest.run_ids for manifest in manifests)))


def commits_of(manifests: Iterable[StoredManifest]) -> dict[str, str]:
    """The commit of each run that readers take from these manifests."""
    return {
        run_id: manifest.content.owners[run_id].commit
        for manifest in manifests
        for run_id in manifest.run_ids
    }


def listed_files(manifest: StoredManifest) -> Iterator[tuple[str, Location, ListedFile]]:
    """Each data file of a manifest: its table, its path, and its entry in the manifest."""
    for table, listed in manifest.files.items():
        path = manifest.file(table)
        assert path is not None
        yield table, path, listed


def _check_layout(path: Location) -> None:
    # Files of earlier development versions were named <id>.parquet.
    if path.suffix == ".parquet" and path.name.count(".") == 1:
        raise WrongFormat(
            f"{path} has the layout of an earlier development version, which this version does not "
            "read; use another lake folder and sweep again"
        )
