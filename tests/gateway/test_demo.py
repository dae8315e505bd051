"""The demonstration data: complete, consistent, evidently of the demonstration."""

import re
from collections import Counter

import phonenumbers
import pytest

from gateway import demo, wording
from gateway.contract import AddressKind
from gateway.demo import DemoData
from gateway.prompts import RATING, RSVP
from gateway.status import BroadcastState, InquiryState
from gateway.text import segment_count

MATTERS = {
    "study",
    "membership",
    "dues",
    "duties_rights",
    "party_building",
    "hardship",
    "suggestions",
}
ALLOWED = {"姓名": "name", "name": "name"}
SIGNATURE = "【清禾党员服务中心】"


@pytest.fixture(scope="module")
def data() -> DemoData:
    return demo.load()


def test_counts(data: DemoData) -> None:
    kinds = Counter(organisation.kind for organisation in data.organisations)
    assert kinds == {"county": 1, "centre": 4, "office": 2, "branch": 12}
    assert len(data.members) == 200
    assert len(data.entries) == 40
    assert len(data.notices) == 3
    assert len(data.canned) == 12


def test_organisations_are_a_tree_of_area_codes(data: DemoData) -> None:
    seen: dict[str, str] = {}
    for organisation in data.organisations:
        assert organisation.code not in seen
        if organisation.parent:
            assert organisation.code.startswith(organisation.parent)
            above = "centre" if organisation.kind == "branch" else "county"
            assert seen[organisation.parent] == above
        else:
            assert organisation.kind == "county"
        seen[organisation.code] = organisation.kind


def test_every_organisation_code_resolves(data: DemoData) -> None:
    codes = {organisation.code for organisation in data.organisations}
    used = {member.organisation for member in data.members}
    used |= {person.organisation for person in data.staff}
    used |= {inquiry.organisation for inquiry in data.inquiries}
    used |= {step.to for inquiry in data.inquiries for step in inquiry.steps if step.to}
    used |= {notice.organisation for notice in data.notices}
    used |= {n.audience["code"] for n in data.notices if "code" in n.audience}
    assert used <= codes


def test_members_stand_in_branches_and_fill_every_branch(data: DemoData) -> None:
    branches = {o.code for o in data.organisations if o.kind == "branch"}
    assert {member.organisation for member in data.members} == branches


def test_each_centre_has_a_director_and_a_clerk(data: DemoData) -> None:
    roles = Counter((person.organisation, person.role) for person in data.staff)
    for organisation in data.organisations:
        if organisation.kind == "centre":
            assert roles[organisation.code, "director"] == 1
            assert roles[organisation.code, "clerk"] == 1
    assert roles["080", "approver"] == 1
    assert len({person.username for person in data.staff}) == len(data.staff)


def test_each_contact_is_one_of_the_staff(data: DemoData) -> None:
    places = {(person.organisation, person.name) for person in data.staff}
    for organisation in data.organisations:
        if organisation.kind != "branch":
            assert (organisation.code, organisation.contact) in places


def test_addresses_are_valid_and_unique(data: DemoData) -> None:
    phones = [member.phone for member in data.members]
    for phone in phones:
        number = phonenumbers.parse(phone)
        assert phonenumbers.is_valid_number(number)
        assert phonenumbers.number_type(number) == phonenumbers.PhoneNumberType.MOBILE
        assert phone == phonenumbers.format_number(
            number, phonenumbers.PhoneNumberFormat.E164
        )
    for values in (
        phones,
        [member.qq for member in data.members if member.qq],
        [member.email for member in data.members if member.email],
        [member.name for member in data.members],
    ):
        assert len(set(values)) == len(values)


def test_addresses_are_evidently_of_the_demonstration(data: DemoData) -> None:
    for member in data.members:
        assert member.phone.startswith("+861990000")
        assert re.fullmatch(r"(99000000\d\d)?", member.qq)
        assert member.email == "" or member.email.endswith("@example.org")


def test_preferred_addresses_exist(data: DemoData) -> None:
    for member in data.members:
        assert getattr(member, AddressKind(member.preferred).value)


def test_tags_agree_with_the_flag(data: DemoData) -> None:
    for member in data.members:
        assert member.mobile == ("流动党员" in member.tags)
    assert {"流动党员", "培养联系人", "老党员", "志愿者", "预备党员"} == {
        tag for member in data.members for tag in member.tags
    }


def test_entries_rest_on_a_regulation_and_are_samples(data: DemoData) -> None:
    assert {entry.matter for entry in data.entries} == MATTERS
    assert len({entry.question for entry in data.entries}) == 40
    for entry in data.entries:
        assert entry.sample
        assert "核对" in entry.note
        assert re.fullmatch(r"《[^《》]+》", entry.regulation)
        assert re.fullmatch(
            r"(第[一二三四五六七八九十]+条(、第[一二三四五六七八九十]+条)*)?",
            entry.article,
        )
        assert 2000 <= entry.issued <= 2026
        assert len(entry.answer) <= 280
        assert len(entry.basis) <= 200
        assert entry.keywords


def test_inquiries_show_all_states_and_channels(data: DemoData) -> None:
    assert len(data.inquiries) >= 12
    assert {i.state for i in data.inquiries} == {state.value for state in InquiryState}
    assert {i.channel for i in data.inquiries} == {
        "sms",
        "qq",
        "qq_group",
        "email",
        "counter",
        "phone",
    }
    assert {inquiry.matter for inquiry in data.inquiries} == MATTERS
    kinds = {step.kind for inquiry in data.inquiries for step in inquiry.steps}
    assert kinds == {
        "received",
        "registered",
        "answered",
        "asked",
        "noted",
        "member_wrote",
        "transferred",
        "extended",
        "supervised",
        "closed",
        "rated",
        "reopened",
    }


def test_inquiries_are_consistent(data: DemoData) -> None:
    staff = {person.username for person in data.staff}
    members = {member.phone: member for member in data.members}
    for inquiry in data.inquiries:
        assert inquiry.owner in staff
        assert bool(inquiry.member) != bool(inquiry.address)
        assert inquiry.member in members or inquiry.address
        assert bool(inquiry.group) == (inquiry.channel == "qq_group")
        if inquiry.channel in {"qq", "qq_group"}:
            assert members[inquiry.member].qq
        if inquiry.channel == "email":
            assert members[inquiry.member].email
        came = {"counter": "registered", "phone": "registered"}
        assert inquiry.steps[0].kind == came.get(inquiry.channel, "received")
        times = [step.after for step in inquiry.steps]
        assert times == sorted(times)
        assert times[-1].total_seconds() < 0
        assert {step.by for step in inquiry.steps if step.by} <= staff


def test_an_unsatisfied_member_finds_the_inquiry_open_again(data: DemoData) -> None:
    values = {int(value) for value, _ in RATING.options}
    for inquiry in data.inquiries:
        kinds = [step.kind for step in inquiry.steps]
        ratings = {step.rating for step in inquiry.steps if step.kind == "rated"}
        assert ratings <= values
        assert ("reopened" in kinds) == (3 in ratings)
        assert (inquiry.state == "closed") == (
            "closed" in kinds and "reopened" not in kinds
        )


def test_notices_name_their_audience(data: DemoData) -> None:
    states = {notice.state for notice in data.notices}
    assert states == {"finished", "draft", "submitted"}
    assert states <= {state.value for state in BroadcastState}
    tags = {tag for member in data.members for tag in member.tags}
    home = {member.phone: member.organisation for member in data.members}
    staff = {"", *(person.username for person in data.staff)}
    words = {"", *(value for value, _ in RSVP.options)}
    for notice in data.notices:
        assert {notice.created_by, notice.submitted_by, notice.approved_by} <= staff
        people = {notice.created_by, notice.submitted_by}
        assert not notice.approved_by or notice.approved_by not in people
        assert notice.audience.get("tag", "流动党员") in tags
        assert {reply.rsvp for reply in notice.replies} <= words
        for reply in notice.replies:
            assert home[reply.member] == notice.audience["code"]


def test_notices_fit_two_segments_and_tell_how_to_refuse(data: DemoData) -> None:
    for notice in data.notices:
        assert notice.texts.keys() == {"sms", "default", "subject"}
        parts = {key: wording.parse(notice.texts[key], ALLOWED) for key in notice.texts}
        sms = wording.render(parts["sms"], {"name": "欧阳建国"})
        assert segment_count(SIGNATURE + sms, (70, 67)) <= 2
        assert sms.endswith("拒收请回复R")
        assert "退订" in notice.texts["default"]
        for part in parts.values():
            assert wording.fields_used(part) <= {"name"}


def test_canned_answers_parse(data: DemoData) -> None:
    for canned in data.canned:
        assert wording.fields_used(wording.parse(canned.text, ALLOWED)) == {"name"}
        assert len(canned.title) <= 20
