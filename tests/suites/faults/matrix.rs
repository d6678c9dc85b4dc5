//! Every fault of the store, under load: each request is redirected, each redirect counted once, and what changed
//! meanwhile is in force soon after. `RBALANCER_TESTS=full` (tests/full) runs each case five times, whole and alone.

use tests::redis_cluster::{BrokenCluster, ClusterFault};
use tests::scenario::run;
use tests::sentinel::Failover;
use tests::trouble::{Broken, Fault};

macro_rules! cases {
    ($($name:ident: $fault:ident,)*) => {
        $(#[test]
        fn $name() {
            run(|| Broken::by(Fault::$fault));
        })*
    };
}

cases! {
    redis_killed: Killed,
    redis_killed_and_erased: KilledAndErased,
    redis_stopped: Stopped,
    redis_stopped_briefly: StoppedBriefly,
    redis_asleep: Asleep,
    writes_paused: WritesPaused,
    all_paused: AllPaused,
    black_hole: Blackhole,
    replies_lost: RepliesLost,
    reset_mid_request: ResetMidRequest,
    slow_slices: SlowSlices,
    flushed: Flushed,
    wrong_types: WrongTypes,
    truncated: Truncated,
    loading: Loading,
    cannot_save: CannotSave,
    out_of_memory: OutOfMemory,
    clients_shut_out: ClientsShutOut,
    password_changed: PasswordChanged,
    read_only: ReadOnly,
    hint_lost: HintLost,
}

#[test]
fn sentinel_failover() {
    run(Failover::new);
}

#[test]
fn cluster_owner_killed() {
    run(|| BrokenCluster::by(ClusterFault::OwnerKilled));
}

#[test]
fn cluster_slot_moved() {
    run(|| BrokenCluster::by(ClusterFault::SlotMoved));
}

#[test]
fn cluster_reply_lost_during_an_apply() {
    run(|| BrokenCluster::by(ClusterFault::ReplyLost));
}
