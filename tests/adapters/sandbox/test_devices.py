from pathlib import Path

import pytest

from adapters.sandbox.devices import (
    GROUP,
    MAX_DEVICES,
    STRANGER,
    DeviceKind,
    Devices,
    Person,
    members,
)
from gateway.clock import ManualClock
from gateway.contract import AddressKind
from gateway.errors import NotFound, RequestError
from gateway.tables import AddressRow, Member, Organisation

PHONE = "+8619900000003"


def person(name: str, **addresses: str) -> Person:
    return Person(
        name=name, addresses={AddressKind(k): v for k, v in addresses.items()}
    )


@pytest.fixture
def devices(tmp_path: Path) -> Devices:
    return Devices(tmp_path / "devices.json")


def shown(devices: Devices) -> list[tuple[str, str]]:
    return [(device.kind.value, device.name) for device in devices.all()]


def test_the_first_devices_are_of_members_and_of_a_stranger(devices: Devices) -> None:
    assert not devices
    zeng = person("曾晓雯", phone=PHONE, qq="9900000001", email="z@example.org")
    devices.furnish([zeng, person("江金凤", phone="+8619900000001")])
    assert shown(devices) == [
        ("sms", "曾晓雯"),
        ("sms", "江金凤"),
        ("qq", "曾晓雯"),
        ("group", GROUP.name),
        ("email", "曾晓雯"),
        ("sms", STRANGER.name),
    ]


def test_without_members_there_is_a_stranger(devices: Devices) -> None:
    devices.furnish([])
    assert shown(devices) == [
        ("sms", STRANGER.name),
        ("qq", STRANGER.name),
        ("group", GROUP.name),
        ("email", STRANGER.name),
    ]


def test_devices_outlive_a_restart(devices: Devices, tmp_path: Path) -> None:
    first = devices.add(DeviceKind.SMS, "199 0000-0003", " 张三 ")
    second = devices.add(DeviceKind.QQ, "10001", "")
    devices.remove(first.id)
    again = Devices(tmp_path / "devices.json")
    assert again.all() == (second,)
    assert again.add(DeviceKind.SMS, "19900000004", "").id == "d3"


def test_a_device_of_a_member_bears_the_name(devices: Devices) -> None:
    people = [Person(name="李四", addresses={AddressKind.PHONE: PHONE})]
    assert devices.add(DeviceKind.QQ, "10001", "", people).name == ""
    assert devices.add(DeviceKind.SMS, PHONE, "", people).name == "李四"


@pytest.mark.parametrize("damage", [b"", b"[{}]", b'[{"id":"../x"}]'])
def test_a_damaged_list_is_an_empty_one(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "devices.json").write_bytes(damage)
    assert not Devices(tmp_path / "devices.json")


def test_the_same_address_stands_once(devices: Devices) -> None:
    first = devices.add(DeviceKind.SMS, PHONE, "张三")
    assert devices.add(DeviceKind.SMS, "19900000003", "李四") == first
    assert shown(devices) == [("sms", "张三")]


@pytest.mark.parametrize(
    ("kind", "address"), [("sms", "12345"), ("qq", "abc"), ("email", "nobody")]
)
def test_a_wrong_address_is_named(devices: Devices, kind: str, address: str) -> None:
    with pytest.raises(RequestError) as caught:
        devices.add(DeviceKind(kind), address, "")
    assert list(caught.value.fields) == ["address"]
    assert caught.value.detail
    assert address not in str(caught.value)


def test_there_is_an_end_to_devices(devices: Devices) -> None:
    for number in range(MAX_DEVICES):
        devices.add(DeviceKind.QQ, f"{10001 + number}", "")
    with pytest.raises(RequestError, match="too_many_devices"):
        devices.add(DeviceKind.QQ, "20001", "")


def test_when_all_members_are_there_one_has_to_type(devices: Devices) -> None:
    devices.add_next(DeviceKind.GROUP, [])
    with pytest.raises(RequestError, match="nobody_left"):
        devices.add_next(DeviceKind.GROUP, [])


def test_an_unknown_device_is_not_found(devices: Devices) -> None:
    with pytest.raises(NotFound):
        devices.get("d1")


async def test_members_with_most_addresses_come_first(
    database: None, clock: ManualClock
) -> None:
    county = await Organisation.create(code="1", name="某县", kind="county", path="/1/")
    now = clock.now()
    for name, addresses in (
        ("江金凤", {"phone": "+8619900000001"}),
        ("曾晓雯", {"phone": PHONE, "qq": "9900000001"}),
        ("无号码", {}),
    ):
        member = await Member.create(name=name, organisation=county, created_at=now)
        for kind, value in addresses.items():
            await AddressRow.create(
                kind=kind, value=value, member=member, created_at=now
            )
    assert [one.name for one in await members()] == ["曾晓雯", "江金凤"]
    assert [one.name for one in await members(limit=1)] == ["曾晓雯"]
