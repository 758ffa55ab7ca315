//! What the host's objects, storage pools and networks, have in common: they are listed, looked up by UUID, named, kept and
//! defined in the same way.

/// The handle of a kind of object, the calls of [`Connection`](super::connection::Connection) that list and find them, and the
/// function for the UUID of one that a callback is given; with libvirt's type, error and functions.
macro_rules! object {
    (
        $(#[$doc:meta])*
        $object:ident($target:ident), $noun:literal, $list:ident, $find:ident, unless $absent:ident;
        $list_all:ident, $look_up:ident, $name:ident, $uuid:ident, $autostart:ident, $persistent:ident, $xml:ident, $free:ident
    ) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $object(std::ptr::NonNull<sys::$target>);

        impl Connection {
            #[doc = concat!("The UUIDs of all ", $noun, "s. Waits for one that is being started or refreshed.")]
            ///
            /// # Errors
            /// Of any class.
            pub fn $list(&self) -> Result<Vec<Uuid>, LibvirtError> {
                let mut list = std::ptr::null_mut();
                // SAFETY: an open connection and a valid out-parameter.
                let count = unsafe { sys::$list_all(self.as_ptr(), &raw mut list, 0) };
                let failed = || self.last_error(concat!("cannot list the ", $noun, "s"));
                let count = usize::try_from(count).map_err(|_| failed())?;
                // SAFETY: a successful call leaves objects there, each with a reference for the caller, then a null pointer.
                let objects = unsafe { super::list::take_all(list, count, $object) };
                Ok(objects.iter().map(|object| uuid_of(object.0.as_ptr())).collect())
            }

            #[doc = concat!("The ", $noun, " with this UUID; `None` if there is none. Waits for that one alone.")]
            ///
            /// # Errors
            /// Of any class.
            pub fn $find(&self, uuid: Uuid) -> Result<Option<$object>, LibvirtError> {
                const ABSENT: ErrorClass = ErrorClass::Other(sys::$absent.cast_signed());
                // SAFETY: an open connection and the 16 bytes that a UUID has.
                let pointer = unsafe { sys::$look_up(self.as_ptr(), uuid.as_bytes().as_ptr()) };
                match std::ptr::NonNull::new(pointer) {
                    Some(pointer) => Ok(Some($object(pointer))),
                    None => Some(self.last_error(concat!("cannot look up a ", $noun)))
                        .filter(|error| error.class != ABSENT)
                        .map_or(Ok(None), Err),
                }
            }
        }

        impl $object {
            /// What asking how it is kept fails at.
            const KEPT: &str = concat!("cannot ask how a ", $noun, " is kept");

            /// The name, without asking the daemon.
            #[must_use]
            pub fn name(&self) -> String {
                // SAFETY: a valid object; the name belongs to it and is copied.
                super::text::text(unsafe { sys::$name(self.0.as_ptr()) })
            }

            /// Whether it starts with the host.
            ///
            /// # Errors
            /// Of any class.
            pub fn autostart(&self, connection: &Connection) -> Result<bool, LibvirtError> {
                let mut autostart = 0;
                // SAFETY: a valid object and a valid out-parameter.
                let done = unsafe { sys::$autostart(self.0.as_ptr(), &raw mut autostart) };
                if done < 0 { Err(connection.last_error(Self::KEPT)) } else { Ok(autostart != 0) }
            }

            /// Whether it is defined, and will be there when it is inactive.
            ///
            /// # Errors
            /// Of any class.
            pub fn is_persistent(&self, connection: &Connection) -> Result<bool, LibvirtError> {
                // SAFETY: a valid object.
                let answer = unsafe { sys::$persistent(self.0.as_ptr()) };
                if answer < 0 { Err(connection.last_error(Self::KEPT)) } else { Ok(answer != 0) }
            }

            /// The definition as XML.
            ///
            /// # Errors
            /// Of any class; [`ErrorClass::TooLarge`] beyond 8 MiB.
            pub fn xml_description(&self, connection: &Connection) -> Result<String, LibvirtError> {
                // SAFETY: a valid object; the result is null or a string for the caller.
                let xml = super::text::OwnedText::new(unsafe { sys::$xml(self.0.as_ptr(), 0) });
                connection.definition(xml, concat!("cannot read a ", $noun, "'s definition"))
            }
        }

        impl Drop for $object {
            fn drop(&mut self) {
                // SAFETY: the handle owns one reference and gives it back once. The daemon is not asked.
                unsafe { sys::$free(self.0.as_ptr()) };
            }
        }

        /// The UUID of a valid object, without asking the daemon.
        pub(super) fn uuid_of(object: *mut sys::$target) -> Uuid {
            let mut uuid = [0; 16];
            // SAFETY: a valid object and room for VIR_UUID_BUFLEN (16) bytes.
            unsafe { sys::$uuid(object, uuid.as_mut_ptr()) };
            Uuid::from_bytes(uuid)
        }
    };
}
pub(super) use object;
