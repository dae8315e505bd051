"""How the simulated centre behaves. Every field is a command line option too, and can
be set while it runs."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """Shares are from 0 to 1, delays in seconds, rates a second; 0 is off."""

    login_status: int = 0  # refuses every bind with it
    refuse_share: float = 0.0
    refuse_numbers: tuple[str, ...] = ()
    refuse_words: tuple[str, ...] = ()
    refuse_part: int = 0  # this part of every long message
    refuse_status: int = 0x0B
    throttle_rate: float = 0.0  # more than this is refused with ESME_RTHROTTLED
    serve_rate: float = 0.0  # answers leave no faster than this
    answer_delay_min: float = 0.0
    answer_delay_max: float = 0.0
    drop_share: float = 0.0  # taken, but never answered
    lose_share: float = 0.0  # taken, then the connection breaks before the answer
    nonsense: bool = False  # taken, and answered with what nobody can read
    mute: bool = False  # take nothing, answer nothing: a half-open connection
    hang_up_at: int = 0  # after so many bytes of a connection
    hang_up_after: int = 0  # so many bytes of ours on a connection: in mid-answer
    receipts: bool = True
    receipt_delay_min: float = 0.0
    receipt_delay_max: float = 0.0
    early_share: float = 0.0  # receipts that leave before the answer
    fail_share: float = 0.0  # receipts that say UNDELIV
    withhold_share: float = 0.0
    repeat_share: float = 0.0
    contradict_share: float = 0.0  # the other final state follows
    enroute_share: float = 0.0  # an ENROUTE comes too, after the final one
    reorder: bool = False  # receipts of one batch in any order
    receipt_tlvs: bool = False  # receipted_message_id and message_state besides
    message_ids: str = "as_is"  # as in the channel's settings
    id_wrap: int = 0  # ids begin again after so many
    deliver_window: int = 1000  # receipts and replies without an answer
    deliver_again_after: float = 1.0  # what was refused for now
    mo_rate: float = 0.0  # messages from members
    mo_text: str = "你好"
    binds: int = 0  # connections of one account at a time
    transceivers: bool = True  # off: only separate binds are known

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

    @property
    def delays(self) -> bool:
        return bool(
            self.answer_delay_max
            or self.serve_rate
            or self.drop_share
            or self.early_share
        )

    @property
    def odd_receipts(self) -> bool:
        return bool(
            self.receipt_delay_max
            or self.fail_share
            or self.withhold_share
            or self.repeat_share
            or self.contradict_share
            or self.enroute_share
            or self.reorder
        )
