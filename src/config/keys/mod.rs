//! The keys of the table, each declared once: what may be written, before users, ports and paths are looked up.
//!
//! A section of the table is declared with the macro `section!`:
//!
//! ```text
//! section! {
//!     /// `per_source` and `per_network`.
//!     pub(crate) struct SourceSpec {
//!         /// The most live handlers of each in this service.
//!         instances: Option<Spanned<Option<u32>>> = limit() => None;
//!         ...
//!     }
//! }
//! ```
//!
//! A line of it is `[RULE] NAME: FIELD = KIND => DEFAULT;`:
//!
//! - The doc comment is the meaning of the key, and its description in the JSON Schema.
//! - `[RULE]`, which may be absent, is a [`Rule`](kinds::Rule): where the key may stand, and whether it must.
//! - `NAME` is the key and the name of the field. `FIELD` is the field's type: `Option<Spanned<T>>`, a
//!   [`SpannedList`], a [`SpannedMap`] or another section.
//! - `KIND` is a [`Key`](kinds::Key) for such a field: a notation of [`super::values`], a [`List`](kinds::List) of
//!   them, [`Sub`](kinds::Sub) for a section, or another of [`kinds`].
//! - `=> DEFAULT`, which may be absent, gives the struct a method of the key's name: what was written, or the
//!   default.
//!
//! From that the macro makes the struct and [`Keys`](kinds::Keys) for it: reading, with the place of every value;
//! laying a service over `defaults`; writing back, for `import` and `--dump`; and the JSON Schema. The reader of a
//! section ([`super::section`]) learns from it which keys are known. A new key is one declaration here, its check
//! in [`super::check`], its field in the checked table, and its way back in [`super::dump`].
//!
//! [`super::load`] reads files with these, [`super::check`] turns specifications into services, readers of other
//! formats make the same specifications. Nothing here looks at the machine.
//!
//! [`SpannedList`]: super::location::SpannedList
//! [`SpannedMap`]: super::location::SpannedMap

/// Declares a section; see the head of this file.
macro_rules! section {
    (
        $(#[doc = $about:literal])+
        pub(crate) struct $spec:ident {
            $(
                $(#[doc = $meaning:literal])+
                $([$rule:expr])? $key:ident: $field:ty = $kind:expr $(=> $default:expr)?;
            )+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, Default)]
        pub(crate) struct $spec {
            $($(#[doc = $meaning])+ pub $key: $field,)+
        }

        impl $crate::config::keys::kinds::Keys for $spec {
            const NAMES: &'static [&'static str] = &[$(stringify!($key)),+];

            fn read(section: &mut $crate::config::section::Section<'_>) -> Self {
                use $crate::config::keys::kinds::{Key, Rule, admit_key};
                let mut spec = Self::default();
                $(
                    if admit_key(section, stringify!($key), None::<&Rule>$(.or(Some(&$rule)))?) {
                        spec.$key = Key::<$field>::read_key(&$kind, stringify!($key), section);
                    }
                )+
                spec
            }

            fn write(&self, map: &mut serde_yaml::Mapping) {
                $($crate::config::keys::kinds::Key::<$field>::write_key(&$kind, &self.$key, stringify!($key), map);)+
            }

            fn describe(object: &mut $crate::config::keys::kinds::Object) {
                use $crate::config::keys::kinds::{About, Key, Rule};
                $(
                    if object.admits_key(stringify!($key), None::<&Rule>$(.or(Some(&$rule)))?) {
                        let default = None$(.or(Some($crate::config::values::Notation::write(&$kind, &$default))))?;
                        let about = About { name: stringify!($key), meaning: concat!($($meaning),+), default };
                        Key::<$field>::describe_key(&$kind, &about, object);
                    }
                )+
            }
        }

        impl $crate::config::keys::kinds::Merge for $spec {
            fn merge(&mut self, below: &Self) {
                $($crate::config::keys::kinds::Merge::merge(&mut self.$key, &below.$key);)+
            }
        }

        impl $spec {
            $($(
                /// The value without its location, or the default.
                pub(crate) fn $key(&self) -> <$field as $crate::config::keys::kinds::Optional>::Value {
                    $crate::config::location::value_or(&self.$key, $default)
                }
            )?)+
        }
    };
}

mod daemon;
mod file;
pub(crate) mod kinds;
mod log;
mod maps;
mod penalties;
mod service;
mod socket;
mod source;

pub(crate) use daemon::{ControlSpec, DaemonLogSpec, DaemonSpec, SourcesSpec};
pub(crate) use file::FileSpec;
pub(crate) use log::{LogSpec, PlaceSpec};
pub(crate) use maps::resource_name;
pub(crate) use penalties::PenaltySpec;
pub(crate) use service::ServiceSpec;
pub(crate) use socket::SocketSpec;
pub(crate) use source::{PrefixSpec, SourceSpec};
