"""How the simulated gateway behaves. Every field is a command line option too, and can
be set while it runs."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """Shares are from 0 to 1, delays in seconds, rates a second; 0 is off."""

    login_status: int = 0  # refuses every login with it
    clock_tolerance: float = 0.0  # of the login's time stamp; beyond it: Status 3
    binds: int = 0  # connections of one account at a time
    refuse_share: float = 0.0
    refuse_numbers: tuple[str, ...] = ()  # as they stand in Dest_terminal_Id
    refuse_words: tuple[str, ...] = ()
    refuse_part: int = 0  # this part of every long message
    refuse_status: int = 13  # Result
    throttle_rate: float = 0.0  # more than this is refused with Result 8
    serve_rate: float = 0.0  # answers leave no faster than this
    answer_delay_min: float = 0.0
    answer_delay_max: float = 0.0
    drop_share: float = 0.0  # taken, but never answered
    babble_share: float = 0.0  # taken, and answered with what nobody can read
    mute: bool = False  # take nothing, answer nothing: a half-open connection
    hang_up_at: int = 0  # after so many octets of a connection
    hang_up_after: int = 0  # so many octets of ours on a connection: in mid-answer
    receipts: bool = True
    receipt_delay_min: float = 0.0
    receipt_delay_max: float = 0.0
    early_share: float = 0.0  # receipts that leave before the answer
    fail_share: float = 0.0  # receipts that say `fail_stat`
    fail_stat: str = "UNDELIV"
    withhold_share: float = 0.0
    repeat_share: float = 0.0
    contradict_share: float = 0.0  # the other final state follows
    accepted_share: float = 0.0  # an ACCEPTD comes too, after the final one
    reorder: bool = False  # receipts of one batch in any order
    id_wrap: int = 0  # ids begin again after so many
    deliver_window: int = 1000  # receipts and replies without an answer
    deliver_again_after: float = 60.0  # what was not answered: T of clause 7.1
    deliver_times: int = 3  # N of clause 7.1
    heartbeat_every: float = 0.0
    mo_rate: float = 0.0  # messages from members
    mo_text: str = "你好"

    @property
    def picks(self) -> bool:
        """Whether messages are treated differently."""
        return bool(
            self.refuse_share
            or self.refuse_numbers
            or self.refuse_words
            or self.refuse_part
            or self.throttle_rate
        )
