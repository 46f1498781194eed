/* dh: destination hash, as IPVS's `dh`: everything that is sent to one address of the service gets the same endpoint.
   A ClusterIP service has one address per family, and so one endpoint at a time; node ports and external addresses
   have more. Otherwise as `sh`. */
#define HASHED DESTINATION_ADDRESS
#include "sh.c"
