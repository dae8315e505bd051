"""What the rows of a member sheet mean, and what is wrong with them. Pure.

A row is either a record or a list of faults; good rows don't suffer from bad ones.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from gateway import addresses
from gateway.addresses import AddressError
from gateway.contract import Address
from gateway.errors import RequestError
from gateway.members.fields import joined_on, tags_of, yes_or_no
from gateway.phrases import phrase

NAME, PHONE, EMAIL, QQ = "姓名", "手机", "邮箱", "QQ"
PLACE, JOINED, MOBILE, TAGS, DAILY = (
    "党组织",
    "入党时间",
    "流动党员",
    "标签",
    "每日一答",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    name: str
    needed: bool
    example: str
    also: tuple[str, ...] = ()  # other names that sheets in use give it


COLUMNS = (
    Column(name=NAME, needed=True, example="江金凤", also=("党员姓名", "名字")),
    Column(
        name=PLACE,
        needed=True,
        example="禾苑社区党支部（名称或区号）",
        also=("所在党支部", "党支部", "组织", "所在党组织", "区号"),
    ),
    Column(
        name=PHONE,
        needed=False,
        example="13800138000",
        also=("手机号", "手机号码", "电话", "联系电话", "联系方式"),
    ),
    Column(
        name=EMAIL,
        needed=False,
        example="name@example.org",
        also=("电子邮箱", "邮件", "email", "e-mail"),
    ),
    Column(name=QQ, needed=False, example="9900000001", also=("qq号", "qq号码")),
    Column(name=JOINED, needed=False, example="2009-07", also=("入党日期", "入党年月")),
    Column(name=MOBILE, needed=False, example="否", also=("是否流动党员", "流动")),
    Column(name=TAGS, needed=False, example="志愿者，老党员", also=("标记",)),
    Column(name=DAILY, needed=False, example="是", also=("订阅每日一答", "订阅")),
)


@dataclass(frozen=True, slots=True)
class Fault:
    field: str  # the column's name
    value: str  # what stands there
    message: str  # what is wrong and how to mend it


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One good row. `daily` and `mobile` are None where the sheet has no such column
    or the cell is empty: nothing is changed then."""

    row: int
    name: str
    organisation_id: int
    contacts: tuple[Address, ...]
    joined_on: str = ""
    mobile: bool | None = None
    tags: tuple[str, ...] = ()
    daily: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RowResult:
    row: int  # as the spreadsheet numbers it: the header is row 1
    cells: tuple[str, ...]
    record: Record | None
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """The organisations that may be named: ids by code and by name."""

    codes: Mapping[str, int]
    names: Mapping[str, Sequence[int]]


def places(organisations: Iterable[tuple[int, str, str]]) -> Places:
    """From id, code and name of each organisation the actor may see."""
    codes, names = {}, defaultdict(list)
    for id, code, name in organisations:
        codes[code] = id
        names[name].append(id)
    return Places(codes=codes, names=names)


def parse_rows(rows: Sequence[Sequence[str]], known: Places) -> list[RowResult]:
    """The header is the first row that isn't empty, its columns stand in any order.

    Raises RequestError where it names no column for name or organisation.
    """
    start = next((n for n, row in enumerate(rows) if any(row)), None)
    if start is None:
        raise _unusable("表是空的，请填写后再上传")
    columns = _columns(rows[start])
    results = []
    seen: dict[Address, tuple[int, str]] = {}
    for number, row in enumerate(rows[start + 1 :], start=start + 2):
        if any(row):
            results.append(_row(number, tuple(row), columns, known, seen))
    return results


def _unusable(text: str) -> RequestError:
    return RequestError("sheet", text, status=422, fields={"file": text})


def _columns(header: Sequence[str]) -> dict[str, int]:
    names = {
        _folded(name): column.name
        for column in COLUMNS
        for name in (column.name, *column.also)
    }
    found: dict[str, int] = {}
    for index, cell in enumerate(header):
        name = names.get(_folded(cell))
        if name is not None and name in found:
            raise _unusable(phrase("有两列都是“{name}”，请只留一列", name=name))
        if name is not None:
            found[name] = index
    missing = [c.name for c in COLUMNS if c.needed and c.name not in found]
    if missing:
        raise _unusable(
            phrase(
                "第一行没有“{names}”列，请对照空白表补上列名后重新上传",
                names="”“".join(missing),
            )
        )
    return found


def _folded(text: str) -> str:
    return "".join(text.split()).strip("*＊：:").lower()


class _Faults:
    """Collects what is wrong with one row."""

    def __init__(self, cells: Mapping[str, str]) -> None:
        self._cells = cells
        self.found: list[Fault] = []

    def add(self, field: str, message: str) -> None:
        self.found.append(Fault(field, self._cells.get(field, ""), message))


def _row(
    number: int,
    row: tuple[str, ...],
    columns: Mapping[str, int],
    known: Places,
    seen: dict[Address, tuple[int, str]],
) -> RowResult:
    cells = {
        name: row[index].strip() if index < len(row) else ""
        for name, index in columns.items()
    }
    faults = _Faults(cells)
    record = Record(
        row=number,
        name=_name(cells, faults),
        organisation_id=_place(cells, known, faults),
        contacts=_contacts(cells, faults),
        joined_on=_joined(cells, faults),
        mobile=_flag(cells, MOBILE, faults),
        tags=_tags(cells, faults),
        daily=_flag(cells, DAILY, faults),
    )
    if record.daily and not record.contacts and not faults.found:
        faults.add(DAILY, "没有联系方式，收不到每日一答；请补手机、邮箱或QQ")
    if not faults.found:
        _refuse_repeated(record, seen, faults)
    return RowResult(
        row=number,
        cells=row,
        record=None if faults.found else record,
        faults=tuple(faults.found),
    )


def _name(cells: Mapping[str, str], faults: _Faults) -> str:
    name = " ".join(cells[NAME].split())
    if not name:
        faults.add(NAME, "没有填写姓名")
    elif len(name) > 64:
        faults.add(NAME, "姓名太长，最多64个字")
    return name


def _place(cells: Mapping[str, str], known: Places, faults: _Faults) -> int:
    text = cells[PLACE]
    if not text:
        faults.add(PLACE, "没有填写党组织，请填名称或区号")
        return 0
    if text in known.codes:
        return known.codes[text]
    # A sheet that keeps codes as numbers drops their leading zeros.
    padded = [id for code, id in known.codes.items() if code.lstrip("0") == text]
    ids = known.names.get(text, []) or (padded if text.isdigit() else [])
    if len(ids) > 1:
        faults.add(PLACE, "有几个组织叫这个名称，请改填区号")
    elif not ids:
        faults.add(PLACE, "您管理的范围里没有这个党组织，请核对名称，或改填区号")
    return ids[0] if ids else 0


def _contacts(cells: Mapping[str, str], faults: _Faults) -> tuple[Address, ...]:
    parsers: tuple[tuple[str, Callable[[str], Address]], ...] = (
        (PHONE, addresses.phone),
        (EMAIL, addresses.email),
        (QQ, addresses.qq),
    )
    found = []
    for field, parse in parsers:
        if text := cells.get(field, ""):
            try:
                found.append(parse(text))
            except AddressError as error:
                faults.add(field, str(error))
    return tuple(found)


def _joined(cells: Mapping[str, str], faults: _Faults) -> str:
    date = joined_on(cells.get(JOINED, ""))
    if date is None:
        faults.add(JOINED, "看不懂这个日期，请写成 2009、2009-07 或 2009-07-01")
    return date or ""


def _flag(cells: Mapping[str, str], field: str, faults: _Faults) -> bool | None:
    text = cells.get(field, "")
    if not text:
        return None
    answer = yes_or_no(text)
    if answer is None:
        faults.add(field, "请填“是”或“否”")
    return answer


def _tags(cells: Mapping[str, str], faults: _Faults) -> tuple[str, ...]:
    try:
        return tuple(tags_of(cells.get(TAGS, "")))
    except ValueError as error:
        faults.add(TAGS, str(error))
        return ()


def _refuse_repeated(
    record: Record, seen: dict[Address, tuple[int, str]], faults: _Faults
) -> None:
    fields = {"phone": PHONE, "email": EMAIL, "qq": QQ}
    for address in record.contacts:
        if address in seen:
            row, name = seen[address]
            words = "和第{row}行重复了，请核对后只留一处"
            if name != record.name:
                words = "和第{row}行姓名不同，号码却一样，请核对后只留一处"
            faults.add(fields[address.kind], phrase(words, row=row))
    if not faults.found:
        for address in record.contacts:
            seen[address] = (record.row, record.name)
