//! What the histories met, so that nobody believes in a case that never came.

/// Counts of what happened, over any number of histories.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    pub histories: u64,
    pub messages: u64,
    pub cuts: u64,
    pub abandoned: u64,
    pub resumes: u64,
    pub cuts_in_repetition: u64,
    pub cuts_in_client_repetition: u64,
    pub resumes_unnoticed: u64,
    pub torn_tails: u64,
    pub acks_lost: u64,
    pub acks_repeated: u64,
    pub resent: u64,
    pub duplicates: u64,
    pub slow_sockets: u64,
    pub waits_for_room: u64,
    pub overflows: u64,
    pub overflows_in_gap: u64,
    pub windows_over: u64,
    pub resumes_refused: u64,
    pub early_messages: u64,
    pub false_acks: u64,
    pub false_sequences: u64,
    pub stubs: u64,
    pub closes: u64,
    pub miscounts_averted: u64,
}

impl Seen {
    /// Every count with its name.
    pub fn all(&self) -> [(&'static str, u64); 25] {
        [
            ("histories", self.histories),
            ("messages delivered", self.messages),
            ("cuts", self.cuts),
            ("sockets that the client gave up unbroken", self.abandoned),
            ("resumes", self.resumes),
            ("cuts during the server's repetition", self.cuts_in_repetition),
            ("cuts during the client's repetition", self.cuts_in_client_repetition),
            ("resumes before the server noticed the loss", self.resumes_unnoticed),
            ("torn tails", self.torn_tails),
            ("Acks lost", self.acks_lost),
            ("Acks repeated", self.acks_repeated),
            ("messages repeated by the server", self.resent),
            ("duplicates dropped by the server", self.duplicates),
            ("times that a full socket held the server up", self.slow_sockets),
            ("messages that waited for room", self.waits_for_room),
            ("overflows", self.overflows),
            ("overflows in the gap", self.overflows_in_gap),
            ("gaps beyond the window", self.windows_over),
            ("resumes refused for their rate", self.resumes_refused),
            ("messages in front of the client's Sequence", self.early_messages),
            ("false Acks", self.false_acks),
            ("false Sequences", self.false_sequences),
            ("acknowledged messages repeated without their bytes", self.stubs),
            ("Closes", self.closes),
            ("messages that waited for the client's first", self.miscounts_averted),
        ]
    }

    /// Adds another's counts.
    pub fn add(&mut self, other: &Self) {
        self.histories += other.histories;
        self.messages += other.messages;
        self.cuts += other.cuts;
        self.abandoned += other.abandoned;
        self.resumes += other.resumes;
        self.cuts_in_repetition += other.cuts_in_repetition;
        self.cuts_in_client_repetition += other.cuts_in_client_repetition;
        self.resumes_unnoticed += other.resumes_unnoticed;
        self.torn_tails += other.torn_tails;
        self.acks_lost += other.acks_lost;
        self.acks_repeated += other.acks_repeated;
        self.resent += other.resent;
        self.duplicates += other.duplicates;
        self.slow_sockets += other.slow_sockets;
        self.waits_for_room += other.waits_for_room;
        self.overflows += other.overflows;
        self.overflows_in_gap += other.overflows_in_gap;
        self.windows_over += other.windows_over;
        self.resumes_refused += other.resumes_refused;
        self.early_messages += other.early_messages;
        self.false_acks += other.false_acks;
        self.false_sequences += other.false_sequences;
        self.stubs += other.stubs;
        self.closes += other.closes;
        self.miscounts_averted += other.miscounts_averted;
    }
}
