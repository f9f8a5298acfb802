//! Putting a table in force: the first one, and those of a reload and an upgrade.
//!
//! Everything that can fail has been done before ([`NewTable`]); nothing here does. Listeners of endpoints that are in both
//! tables stay open with their backlog, live handlers and counts stay, and every limit is judged anew.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use super::Dispatcher;
use super::kernel::{Kernel, Resources};
use super::service::Served;
use super::tcpmux;
use crate::admission;
use crate::config::Service;
use crate::log::Event;
use crate::net::Endpoint;
use crate::types::{ListenerId, ServiceId};

/// A new socket, open but not yet in use.
#[derive(Debug)]
pub(crate) struct NewSocket<S> {
    /// The socket.
    pub socket: S,
    /// `opened` or `adopted`.
    pub how: &'static str,
}

/// New sockets by endpoint. Dropped, they are closed again and nothing has changed.
pub(crate) type NewSockets<S> = HashMap<Endpoint, NewSocket<S>>;

/// A table that is ready to be put in force.
#[derive(Debug)]
pub(crate) struct NewTable<R: Resources> {
    /// The enabled services, each with what its handlers have in common.
    pub services: Vec<(Rc<Service>, R::Template)>,
    /// A socket for each of their endpoints that is not open yet.
    pub sockets: NewSockets<R::Socket>,
    /// The most handlers that may live at one time.
    pub instances: u32,
    /// What admission has prepared for the table.
    pub admission: admission::Prepared,
}

impl<K: Kernel> Dispatcher<K> {
    /// Puts a table in force. Gives warnings of options that the kernel would not change on a socket that was kept.
    pub(crate) fn commit(&mut self, table: NewTable<K>) -> Vec<String> {
        let NewTable { services, sockets, instances, admission } = table;
        let (services, templates): (Vec<_>, Vec<_>) = services.into_iter().unzip();
        let ids = self.ledger.list(services.iter().map(|service| service.name.as_str()));
        let warnings = self.commit_listeners(&services, &ids, sockets);
        let rules = ids.iter().copied().zip(&services);
        self.admission.serve(rules, instances, admission, self.now);
        let served = ids.into_iter().zip(services).zip(templates).map(|((id, config), template)| {
            let name = Arc::from(config.name.as_str());
            (id, Rc::new(Served { id, name, config, template }))
        });
        self.services = served.collect();
        self.mux_targets = self.services.values().flat_map(|served| tcpmux::names(served)).collect();
        self.update_all_polling();
        warnings
    }

    fn commit_listeners(
        &mut self,
        services: &[Rc<Service>],
        ids: &[ServiceId],
        mut sockets: NewSockets<K::Socket>,
    ) -> Vec<String> {
        let mut old: HashMap<Rc<Endpoint>, ListenerId> =
            self.listeners.iter().map(|(id, listener)| (Rc::clone(&listener.endpoint), id)).collect();
        let mut warnings = Vec::new();
        for (service, &owner) in services.iter().zip(ids) {
            for endpoint in &service.listen {
                if let Some(id) = old.remove(endpoint) {
                    warnings.extend(self.keep_listener(id, service, owner));
                } else if let Some(NewSocket { socket, how }) = sockets.remove(endpoint) {
                    self.add_listener(endpoint, service, owner, socket);
                    let name = Arc::from(service.name.as_str());
                    self.kernel.log(Event::Listen { service: name, endpoint: endpoint.to_string(), how });
                }
            }
        }
        old.into_values().for_each(|id| self.unlisten(id));
        warnings
    }

    /// Closes a listener whose endpoint is in no service any more.
    fn unlisten(&mut self, id: ListenerId) {
        let Some(listener) = self.listeners.get(id) else { return };
        let (service, endpoint) = (Arc::clone(&listener.name), listener.endpoint.to_string());
        self.close_listener(id);
        self.kernel.log(Event::Unlisten { service, endpoint });
    }

    /// Closes all sockets, for the end of the daemon. Handlers live on.
    pub(crate) fn close_all_listeners(&mut self) {
        let ids: Vec<_> = self.listeners.iter().map(|(id, _)| id).collect();
        ids.into_iter().for_each(|id| self.close_listener(id));
    }
}
