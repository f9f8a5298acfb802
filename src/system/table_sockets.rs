//! The sockets of a new table: opens all that are not open yet, before the table is put in force.
//!
//! The server calls [`Dispatcher::open_sockets`] when it prepares a table. A socket that is open already is left as
//! it is, and if one cannot be opened none is: the error has all that failed.

use std::collections::HashSet;
use std::rc::Rc;

use super::System;
use super::open::{ListenerSocket, OpenSocketError, claim_or_open};
use crate::config::Service;
use crate::dispatch::Dispatcher;
use crate::dispatch::commit::NewSockets;
use crate::net::Endpoint;

impl Dispatcher<System> {
    /// Opens every socket of the enabled services that is not open yet, or finds it among those that the service
    /// manager passed.
    ///
    /// # Errors
    /// All sockets that could not be opened; then none is.
    pub(crate) fn open_sockets(
        &mut self,
        services: &[Rc<Service>],
    ) -> Result<NewSockets<ListenerSocket>, Vec<OpenSocketError>> {
        let (system, open) = self.kernel_and_listeners();
        let kept: HashSet<&Endpoint> = open.iter().map(|(_, listener)| &*listener.endpoint).collect();
        let (mut fresh, mut errors) = (NewSockets::default(), Vec::new());
        for service in services {
            for endpoint in service.listen.iter().filter(|endpoint| !kept.contains(endpoint)) {
                let overlapping = open.iter().filter(|(_, one)| one.endpoint.overlaps(endpoint));
                let neighbours = overlapping.map(|(_, one)| &one.socket);
                match claim_or_open(&mut system.passed, endpoint, service, neighbours) {
                    Ok(socket) => fresh.extend(socket.map(|socket| (endpoint.clone(), socket))),
                    Err(error) => errors.push(error),
                }
            }
        }
        if errors.is_empty() { Ok(fresh) } else { Err(errors) }
    }
}
