//! The names of rbalancer's keys in Redis. One hash tag in the prefix puts all of them in one slot of a Cluster.

/// Makes key names under one prefix, `{rbalancer}` by default.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    prefix: String,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
        }
    }

    /// Hash: the stamp of the table in force and the tables kept. Written by the command line.
    pub(super) fn generation(&self) -> String {
        self.key("generation")
    }

    /// Channel: something was published. Spoken on by the command line and healthd.
    pub(super) fn hint(&self) -> String {
        self.key("hint")
    }

    /// JSON: one published table, immutable. Written by the command line.
    pub(super) fn table(&self, generation: u64) -> String {
        self.key(&format!("table:{generation}"))
    }

    /// Hash: generation → who published it, why and when; as many as there are tables. Written by the command line.
    pub(super) fn tables(&self) -> String {
        self.key("tables")
    }

    /// What every table's key begins with.
    pub(super) fn table_prefix(&self) -> String {
        self.key("table:")
    }

    /// JSON on its way in; expires by itself if the publication is not carried through.
    pub(super) fn staging(&self, nonce: &str) -> String {
        self.key(&format!("staging:{nonce}"))
    }

    /// Hash: `farm/server` → what was set by hand. Written by the command line.
    pub(super) fn overrides(&self) -> String {
        self.key("overrides")
    }

    /// Sorted set: each prober's sequence. Written by healthd.
    pub(super) fn probers(&self) -> String {
        self.key("healthd")
    }

    /// Hash: check → finding of one prober. Written by that healthd.
    pub(super) fn health(&self, prober: &str) -> String {
        self.key(&format!("health:{prober}"))
    }

    /// Sorted set: check → the sequence it last changed at. Written by that healthd.
    pub(super) fn health_at(&self, prober: &str) -> String {
        self.key(&format!("health:{prober}:at"))
    }

    /// Sorted set: redirector → when it last spoke, in the store's time. Written by redirectors.
    pub(super) fn replicas(&self) -> String {
        self.key("replicas")
    }

    /// Hash: what one redirector says of itself. Written by that redirector.
    pub(super) fn replica(&self, id: &str) -> String {
        self.key(&format!("replica:{id}"))
    }

    /// Sorted set: one redirector's absolute totals, or `base`. Written by that redirector, or the keeper.
    pub(super) fn count(&self, id: &str) -> String {
        self.key(&format!("count:{id}"))
    }

    /// Sorted set: what of a redirector was folded into the base. Written by the keeper.
    pub(super) fn folded(&self, id: &str) -> String {
        self.key(&format!("folded:{id}"))
    }

    /// Sorted set: redirector → when something of it was folded last, in the store's time. Written by the keeper. No
    /// redirector is called so.
    pub(super) fn folded_index(&self) -> String {
        self.key("folded:index")
    }

    /// Stream: what happened. Written by healthd and the command line.
    pub(super) fn events(&self) -> String {
        self.key("events")
    }

    fn key(&self, rest: &str) -> String {
        format!("{}:{rest}", self.prefix)
    }
}
