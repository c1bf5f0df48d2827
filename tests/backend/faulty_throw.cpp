// What a C++ engine does when nobody catches.
#include <stdexcept>

extern "C" void faulty_throw(void);

void faulty_throw(void)
{
    throw std::runtime_error("thrown inside the engine");
}
